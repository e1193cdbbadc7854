// Avro single-object encoding: C3 01, then the CRC-64-AVRO of the schema's parsing canonical form, little-endian.
// avsc knows neither, so here are both, after the Avro specification.
const EMPTY = 0xc15d213aa4d7a795n;

function crc64(bytes) {
  let crc = EMPTY;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >> 1n) ^ (crc & 1n ? EMPTY : 0n);
  }
  return crc;
}

const PRIMITIVES = new Set(['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string']);

function fullName(name, namespace) {
  return name.includes('.') || !namespace ? name : `${namespace}.${name}`;
}

function canonical(schema, namespace) {
  if (typeof schema === 'string') return JSON.stringify(PRIMITIVES.has(schema) ? schema : fullName(schema, namespace));
  if (Array.isArray(schema)) return `[${schema.map((branch) => canonical(branch, namespace)).join(',')}]`;
  const { type } = schema;
  if (type === 'array') return `{"type":"array","items":${canonical(schema.items, namespace)}}`;
  if (type === 'map') return `{"type":"map","values":${canonical(schema.values, namespace)}}`;
  if (!['record', 'enum', 'fixed'].includes(type)) return canonical(type, namespace);
  const name = fullName(schema.name, schema.namespace ?? namespace);
  const begin = `{"name":${JSON.stringify(name)},"type":"${type}"`;
  if (type === 'enum') return `${begin},"symbols":${JSON.stringify(schema.symbols)}}`;
  if (type === 'fixed') return `${begin},"size":${schema.size}}`;
  const inside = name.slice(0, Math.max(0, name.lastIndexOf('.')));
  const fields = schema.fields.map((field) => `{"name":${JSON.stringify(field.name)},"type":${canonical(field.type, inside)}}`);
  return `${begin},"fields":[${fields.join(',')}]}`;
}

export function singleObjectHeader(schema) {
  const header = Buffer.from('c3010000000000000000', 'hex');
  header.writeBigUInt64LE(crc64(Buffer.from(canonical(schema, ''))), 2);
  return header;
}
