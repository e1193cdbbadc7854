"""The pure core: bytes become a change event, a change event becomes an audit record. No input, output, clock or environment."""
