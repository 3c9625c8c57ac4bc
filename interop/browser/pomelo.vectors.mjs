// Where web/pomelo-codec.js does otherwise than the original on purpose. Keys are the vector's route and its message or bytes.

// The original writes nothing (null) or throws at random places; we throw always, with the reason.
export const BODIES_REFUSED = new Set([
  'onChat {"from":"alice","target":"*"}',
  'onChat {"msg":null,"from":"a","target":"*"}',
  'scalars {"u":-1}',
  'scalars {"u":"abc"}',
  'scalars {"s":"abc"}',
  'req {"b":"x"}',
  'rep {"u":5}',
  'nest {"p":{"x":1}}',
  'nest {"p":{"x":1,"y":2},"many":[{"x":1}]}',
  'nest {"q":{"x":1,"y":2}}',
  'unknownTypes {"b":true}',
  'noSuchRoute {"a":1}',
]);

// The original has no bytes where we have good ones: an empty body where nothing is required, text where a string is
// wanted, and integers of 64 bits outside lists.
export const EMPTY_BODIES = new Map([
  ['scalars {}', ''],
  ['scalars {"u":null}', ''],
  ['rep {"u":[]}', ''],
  ['rep {"u":null}', ''],
  ['onChat {"msg":5,"from":"a","target":"*"}', '0a01351201611a012a'],
  ['unknownTypes {"u":5}', '1005'],
]);

// Malformed: the original throws, or, where it cuts a string at the end of the body, guesses. The last
// two it wrote itself, for types that it does not know.
export const BYTES_REFUSED = new Set([
  'onChat 22016112026869',
  'onChat 0a056869',
  'scalars 08',
  'scalars 0880',
  'scalars 25000000',
  'rep 0803018001',
  'rep 0aff7f01',
  'noSuchRoute 0801',
  'unknownTypes 0a',
  'unknownTypes 12',
]);
