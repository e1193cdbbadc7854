"""What deploys the worker: container image, compose, chart and manifests, systemd unit."""
