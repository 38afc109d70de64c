// Calls every operation of `client.conversations` as a program would.
//
//   node conversations.mjs PACKAGE BASE_URL API_KEY
//
// Prints nothing and exits with 0 if the service answers as OpenAI does.
import assert from "node:assert/strict";

const [name, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI } = await import(name);
const sent = [];
const client = new OpenAI({
  apiKey,
  baseURL,
  defaultHeaders: { "X-User-Id": "ann" },
  fetch: (url, init) => {
    sent.push(init.method);
    return fetch(url, init);
  },
});
const { conversations } = client;

const made = await conversations.create({
  items: [{ role: "user", content: "hello" }],
  metadata: { title: "x", tags: "a", owner_id: "y" },
});
assert.match(made.id, /^conv_/);
assert.equal(made.object, "conversation");
assert.equal(typeof made.created_at, "number");
assert.deepEqual(made.metadata, { title: "x", tags: "a", owner_id: "y" });
assert.deepEqual((await conversations.create()).metadata, {});

const call = { type: "function_call", call_id: "c", name: "f", arguments: "{}" };
const added = await conversations.items.create(made.id, {
  items: [call, { type: "message", role: "assistant", content: "hi" }],
  include: ["message.output_text.logprobs", "reasoning.encrypted_content"],
});
assert.equal(added.object, "list");
assert.equal(added.has_more, false);
assert.deepEqual([added.first_id, added.last_id], added.data.map((item) => item.id));
assert.deepEqual(added.data[0], { ...call, id: added.data[0].id });
assert.match(added.data[0].id, /^fc_/);
assert.deepEqual(added.data[1].content, [{ type: "output_text", text: "hi", annotations: [] }]);

for (let i = 0; i < 3; i++) {
  const items = Array.from({ length: 20 }, (_, n) => ({ role: "user", content: `${i} ${n}` }));
  await conversations.items.create(made.id, { items });
}
const oldest = [];
for await (const item of conversations.items.list(made.id, { order: "asc" })) oldest.push(item.id);
const latest = [];
for await (const item of conversations.items.list(made.id, { limit: 7 })) latest.push(item.id);
assert.equal(oldest.length, 63);
assert.equal(new Set(oldest).size, 63);
assert.deepEqual(latest, oldest.toReversed());

const item = await conversations.items.retrieve(added.data[1].id, { conversation_id: made.id });
assert.deepEqual(item, added.data[1]);
const kept = await conversations.items.delete(item.id, { conversation_id: made.id });
assert.deepEqual(kept, await conversations.retrieve(made.id));
const updated = await conversations.update(made.id, { metadata: { a: "b" } });
assert.deepEqual(updated.metadata, { a: "b" });

const refused = async (promise, kind, status) => {
  const error = await promise.then(assert.fail, (reason) => reason);
  assert.ok(error instanceof kind, `${error}`);
  assert.equal(error.status, status);
  assert.equal(typeof error.code, "string");
  assert.equal(typeof error.type, "string");
  return error;
};
await refused(conversations.retrieve("conv_none"), OpenAI.NotFoundError, 404);
const wrong = conversations.items.create(made.id, { items: [{ type: 5 }] });
assert.equal((await refused(wrong, OpenAI.BadRequestError, 400)).param, "items[0].type");
const stranger = client.withOptions({ apiKey: "ask_wrong" });
await refused(stranger.conversations.retrieve(made.id), OpenAI.AuthenticationError, 401);
const before = sent.length;
const other = { ...call, id: added.data[0].id, name: "other" };
await refused(
  conversations.items.create(made.id, { items: [other] }), OpenAI.ConflictError, 409,
);
assert.equal(sent.length, before + 1, "a conflict is not retried");

assert.deepEqual(await conversations.delete(made.id), {
  id: made.id,
  deleted: true,
  object: "conversation.deleted",
});
await refused(conversations.items.list(made.id), OpenAI.NotFoundError, 404);
