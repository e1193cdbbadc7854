// Sends change events to the audit log's topic.
//
//   npm install
//   KAFKA_BOOTSTRAP_SERVERS=localhost:9092 npm start
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import avro from 'avsc';
import { Kafka, logLevel } from 'kafkajs';
import { v7 as uuidv7 } from 'uuid';
import { singleObjectHeader } from './single-object.js';

const TOPIC = process.env.KAFKA_TOPIC ?? 'integration-changes';
const SCHEMA_FILE =
  process.env.SCHEMA_FILE ?? fileURLToPath(new URL('../../../schemas/v1/IntegrationChangeEvent.avsc', import.meta.url));

const schema = JSON.parse(readFileSync(SCHEMA_FILE, 'utf8'));
const type = avro.Type.forSchema(schema);
const header = singleObjectHeader(schema);

// The event of a change that is being made now. Call it once a change: it gives the event its id and its time.
// What it returns is what is sent, and sent again when in doubt: always these bytes, never made anew.
function changeEvent(tenant, changeType, change, { actor = null, result = 'SUCCESS', ...fields } = {}) {
  const event = {
    event_id: uuidv7(),
    occurred_at: Date.now() * 1000, // microseconds
    tenant,
    actor,
    source_ip: null,
    result,
    error_code: null,
    ...fields,
    change: { [`integration.audit.v1.${changeType}`]: change },
  };
  if (!type.isValid(event, { noUndeclaredFields: true })) throw new TypeError(`no valid ${changeType} event`);
  return { id: event.event_id, key: tenant, value: Buffer.concat([header, type.toBuffer(event)]) };
}

const events = [
  changeEvent('acme', 'OAuthClientDeleted', { client_name: 'Reporting', client_id: 'c-1' }, { actor: 'sato', source_ip: '192.0.2.7' }),
  changeEvent('acme', 'SlackSettingUpdated', { enabled: false }, { actor: 'sato', result: 'VALIDATION_ERROR', error_code: 'CB_IJ01' }),
  changeEvent(
    'acme',
    'IntegrationAuthorized',
    { target: { 'integration.audit.v1.OAuthClient': { name: 'Reporting', id: 'c-1' } }, scopes: ['k:app_record:read'] },
    { actor: 'suzuki' },
  ),
];

const kafka = new Kafka({
  clientId: 'audit-producer-example',
  brokers: process.env.KAFKA_BOOTSTRAP_SERVERS.split(','),
  logLevel: logLevel.ERROR,
  retry: { retries: 8 },
});
// Idempotent: the client's own retries neither double nor reorder. It wants acks -1 (all) and one request in flight.
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false });

try {
  await producer.connect();
  await producer.send({ topic: TOPIC, acks: -1, messages: events.map(({ key, value }) => ({ key, value })) });
  for (const { id } of events) console.log(id);
} catch (error) {
  // Nothing is known of these events: keep them, and send the same bytes later. What arrives twice is counted, not written twice.
  console.error(`not confirmed: ${events.map(({ id }) => id).join(', ')}: ${error.name}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await producer.disconnect();
}
