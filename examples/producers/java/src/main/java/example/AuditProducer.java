package example;

import com.github.f4b6a3.uuid.UuidCreator;
import integration.audit.v1.ExternalService;
import integration.audit.v1.IntegrationChangeEvent;
import integration.audit.v1.IntegrationDisabled;
import integration.audit.v1.OAuthClientUpdated;
import integration.audit.v1.Result;
import integration.audit.v1.SlackSettingUpdated;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.avro.specific.SpecificRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteBufferSerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Sends change events to the audit log's topic.
 *
 * <pre>
 * mvn package
 * KAFKA_BOOTSTRAP_SERVERS=localhost:9092 java -cp 'target/classes:target/dependency/*' example.AuditProducer
 * </pre>
 */
public final class AuditProducer implements AutoCloseable {
  private final Producer<String, ByteBuffer> producer;
  private final String topic;

  public AuditProducer(String bootstrapServers, String topic) {
    this.topic = topic;
    this.producer =
        new KafkaProducer<>(
            Map.of(
                ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrapServers,
                ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true, // the client's own retries neither double nor reorder
                ProducerConfig.ACKS_CONFIG, "all",
                ProducerConfig.COMPRESSION_TYPE_CONFIG, "zstd",
                ProducerConfig.LINGER_MS_CONFIG, 5,
                ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, 60_000),
            new StringSerializer(),
            new ByteBufferSerializer());
  }

  /**
   * The event of a change that is being made now. Call it once a change: it gives the event its id and its time, and the same
   * event is sent again when in doubt.
   */
  static IntegrationChangeEvent.Builder changed(String tenant, String actor, SpecificRecord change) {
    return IntegrationChangeEvent.newBuilder()
        .setEventId(UuidCreator.getTimeOrderedEpoch()) // UUIDv7
        .setOccurredAt(Instant.now())
        .setTenant(tenant)
        .setActor(actor)
        .setResult(Result.SUCCESS)
        .setChange(change);
  }

  /** Sends them, and returns those that Kafka has not confirmed: keep them, and send them later with the same id. */
  public List<IntegrationChangeEvent> send(List<IntegrationChangeEvent> events) throws IOException, InterruptedException {
    Map<IntegrationChangeEvent, Future<RecordMetadata>> sent = new LinkedHashMap<>();
    List<IntegrationChangeEvent> unconfirmed = new ArrayList<>();
    for (IntegrationChangeEvent event : events) {
      try {
        // Avro's single-object encoding: C3 01, the schema's fingerprint, the datum.
        sent.put(event, producer.send(new ProducerRecord<>(topic, event.getTenant(), event.toByteBuffer())));
      } catch (KafkaException error) { // the producer is dead, fenced or full
        unconfirmed.add(failed(event, error));
      }
    }
    for (Map.Entry<IntegrationChangeEvent, Future<RecordMetadata>> each : sent.entrySet()) {
      try {
        each.getValue().get(); // delivery.timeout.ms bounds it
      } catch (ExecutionException error) {
        unconfirmed.add(failed(each.getKey(), error.getCause()));
      }
    }
    return unconfirmed;
  }

  private static IntegrationChangeEvent failed(IntegrationChangeEvent event, Throwable error) {
    System.err.println("event " + event.getEventId() + ": " + error.getClass().getSimpleName());
    return event;
  }

  @Override
  public void close() {
    producer.close();
  }

  /** Three changes of a tenant. */
  public static void main(String[] arguments) throws IOException, InterruptedException {
    List<IntegrationChangeEvent> events =
        List.of(
            changed("acme", "sato", new OAuthClientUpdated("Reporting", "c-1")).setSourceIp("192.0.2.7").build(),
            changed("acme", "sato", new SlackSettingUpdated(true)).setResult(Result.FAILED).setErrorCode("CB_NO02").build(),
            changed("acme", "suzuki", new IntegrationDisabled(new ExternalService("Box", "box"))).build());
    String topic = System.getenv().getOrDefault("KAFKA_TOPIC", "integration-changes");
    List<IntegrationChangeEvent> unconfirmed;
    try (AuditProducer producer = new AuditProducer(System.getenv("KAFKA_BOOTSTRAP_SERVERS"), topic)) {
      unconfirmed = producer.send(events);
    }
    events.stream().filter(event -> !unconfirmed.contains(event)).forEach(event -> System.out.println(event.getEventId()));
    System.exit(unconfirmed.isEmpty() ? 0 : 1);
  }
}
