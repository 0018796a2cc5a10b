// Templates are programs from strangers: what they may do, what stops them, and which part of their text is theirs.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type ChatMessage, renderChat, shieldMessages, splitControl } from "../../engine/chat_template.ts";
import { ModelFileError, UsageError } from "../../engine/errors.ts";

const hello: readonly ChatMessage[] = [{ role: "user", content: "hi" }];

function fails(template: string, type: new (message: string) => Error, message: RegExp, messages = hello): void {
  const started = performance.now();
  assert.throws(() => renderChat(template, messages), (error: unknown) => {
    assert.instance(error, type, String(error));
    assert.match((error as Error).message, message);
    assert.not.match((error as Error).message, /\n/);
    return true;
  });
  assert.ok(performance.now() - started < 30_000, "stopped, not merely slow");
}

test("renders the constructs that published templates use", () => {
  const template = `{%- if messages[0].role == 'system' %}
    {{- '[' + messages[0].content | trim + ']' }}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- set ns = namespace(users=0) %}
{%- macro turn(m) %}<{{ m.role }}>{{ m['content'].split('</think>')[-1].lstrip('\\n') }}{% endmacro %}
{%- for message in rest %}
    {%- if message.role == 'user' %}{% set ns.users = ns.users + 1 %}{% endif %}
    {{- turn(message) }}
    {%- if not loop.last %}|{% endif %}
{%- endfor %}
{%- for i in range(2) %}{{ i }}{% endfor %}{{ tools is defined }}
{%- if add_generation_prompt %}{{ bos_token }}>{{ eos_token }}{{ ns.users }}{% endif %}`;
  const messages: ChatMessage[] = [
    { role: "system", content: " S " }, { role: "user", content: "q" }, { role: "assistant", content: "<think>x</think>\n\na" },
  ];
  assert.is(renderChat(template, messages, { bosToken: "B", eosToken: "E" }), "[S]<user>q|<assistant>a01falseB>E1");
  assert.is(renderChat(template, messages, { addGenerationPrompt: false }), "[S]<user>q|<assistant>a01false");
  assert.is(renderChat("{{ range(1, 7, 2) | list }}{{ range(3, 0, -1) | length }}{{ range(5, 2) | length }}", hello), "[1, 3, 5]30");
});

test("the template's own refusal is the user's error, a broken template is the model's", () => {
  fails("{{ raise_exception('roles must alternate') }}", UsageError, /refuses these messages: roles must alternate/);
  fails("{% for m in messages %}", ModelFileError, /^chat template: not a template we can run/);
  fails("{% if %}", ModelFileError, /not a template/);
  fails("{{ messages.nothing.at.all() }}", ModelFileError, /not a template/);
  fails("{% include 'x' %}", ModelFileError, /not a template/);
  fails("{{ " + "(".repeat(20000) + "1" + ")".repeat(20000) + " }}", ModelFileError, /not a template/);
  assert.throws(() => renderChat("{% if %}", hello, { source: "m/chat_template.jinja" }), /^m\/chat_template\.jinja: /);
});

test("no way to the host", () => {
  for (const name of ["constructor", "__proto__", "process", "globalThis", "messages.constructor", "''.constructor", "range.constructor"]) {
    assert.is(renderChat(`{{ (${name}) is defined }}`, hello), "false", name);
  }
});

test("endless and exploding templates are stopped in time", () => {
  fails("{% for i in range(1000000000) %}{% endfor %}", ModelFileError, /range of 1000000000 numbers/);
  fails("{% for i in range(0, 1, 0) %}{% endfor %}", ModelFileError, /step must not be zero/);
  const nested = "{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}";
  fails(`{% set r = range(5000) %}${nested}`, ModelFileError, /runs longer than 1500 ms/);
  const twice = "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}";
  fails(twice, ModelFileError, /runs longer|text and lists/);
  fails("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", ModelFileError, /not a template|longer than/);
  fails("{% set r = range(10000) %}" + "{% set r = r + r %}".repeat(40), ModelFileError, /text and lists/);
  fails("{% set s = 'ab' %}" + "{% set s = s ~ s %}".repeat(60), ModelFileError, /text and lists|string length/);
  fails(`{% for i in range(5000) %}${"y".repeat(1000)}{% endfor %}`, ModelFileError, /prompt of 5000000 characters; at most 4194304/);
});

test("malformed conversations are refused by index", () => {
  fails("", UsageError, /at least one message/, []);
  fails("", UsageError, /messages\[1\]\.role is "root"/, [hello[0]!, { role: "root", content: "" } as unknown as ChatMessage]);
  const parts = { role: "user", content: ["x"] } as unknown as ChatMessage;
  fails("", UsageError, /messages\[0\]\.content must be a string, found object/, [parts]);
  fails("", UsageError, /messages\[0\]\.role/, [null as unknown as ChatMessage]);
});

const tokens = [
  { content: "<|end|>", id: 7, special: true }, { content: "<|end|>>", id: 8, special: true }, { content: "</t>", id: 9, special: false },
  { content: "¦", id: 10, special: true }, { content: "{x", id: 11, special: true }, { content: "x}", id: 12, special: true },
];

test("tokens in content are broken, tokens of the template are ids, and the text is whole again", () => {
  const template = "<|end|>{{ messages[0].content }}</t>{% for m in messages[1:] %}{{ m.content }}{% endfor %}<|end|>>¦";
  const contents = ["a<|end|>¦¦</t>{x}", "<|end<|end|>|>>", "plain"];
  const messages = contents.map((content, i): ChatMessage => ({ role: i === 2 ? "assistant" : "user", content }));
  const { messages: shielded, mark } = shieldMessages(messages, tokens);
  const pieces = splitControl(renderChat(template, shielded), tokens, mark);
  assert.equal(pieces, [7, contents[0], 9, contents[1]! + contents[2]!, 8, 10]);
});

test("an assistant's own markup stays visible to the template, its special tokens do not become ids", () => {
  const { messages, mark } = shieldMessages([{ role: "assistant", content: "x</t>y<|end|>" }], tokens);
  assert.is(renderChat("{{ messages[0].content.split('</t>')[-1] }}", messages).replaceAll(mark, ""), "y<|end|>");
  assert.equal(splitControl(messages[0]!.content, tokens, mark), ["x", 9, "y<|end|>"]);
});

test("the mark avoids what the messages contain", () => {
  const all = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i)).join("");
  const { messages, mark } = shieldMessages([{ role: "user", content: all.slice(0, 31) + "<|end|>" }], tokens);
  assert.is(mark, "\ufdef");
  assert.equal(splitControl(messages[0]!.content, tokens, mark), [all.slice(0, 31) + "<|end|>"]);
  assert.throws(() => shieldMessages([{ role: "user", content: all }], tokens), (error: unknown) => error instanceof UsageError);
  assert.equal(splitControl("no tokens", [], mark), ["no tokens"]);
});

test.run();
