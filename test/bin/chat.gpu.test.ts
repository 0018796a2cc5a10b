/** `dawnlm chat` fed by a pipe: each line is a turn of one conversation, and its answers are those of the library. */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM } from "../../index.ts";
import { dawnlm } from "../support/command.ts";

const TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
const folder = mkdtempSync(join(tmpdir(), "dawnlm-chat-"));
test.before(() => {
  cpSync(fileURLToPath(new URL("../../assets/models/tiny-qwen2", import.meta.url)), folder, { recursive: true });
  writeFileSync(join(folder, "chat_template.jinja"), TEMPLATE);
});
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

test("turns remember each other until /reset; /exit leaves the rest unread", async () => {
  const stdin = "My fellow citizens\nAnd the war?\n/nonsense\n\n/reset\nMy fellow citizens\n/exit\nnever read\n";
  const { code, stdout, stderr } = await dawnlm(["chat", "--model", folder, "--max-tokens", "10"], { stdin });
  assert.is(code, 0, stderr);
  assert.is(stderr, "dawnlm: unknown command /nonsense; there are /reset and /exit\n");
  const llm = await LLM.load(folder);
  try {
    const answer = async (...turns: string[]): Promise<string> => {
      const messages = turns.map((content, i) => ({ role: i % 2 === 0 ? "user" as const : "assistant" as const, content }));
      return (await llm.generate(await llm.tokenizer.encodeChat(messages, { addGenerationPrompt: true }), { maxNewTokens: 10 })).text;
    };
    const first = await answer("My fellow citizens");
    const second = await answer("My fellow citizens", first, "And the war?");
    assert.is.not(second, await answer("And the war?"), "the second answer must depend on the first turn for this test to mean anything");
    assert.is(stdout, `${first}\n${second}\n${first}\n`);
  } finally {
    await llm.close();
  }
});

test("a conversation that outgrows the context is told so and goes on", async () => {
  const stdin = "My fellow citizens\nAnd what of the war that we were told of so often?\n/reset\nMy fellow citizens\n";
  const { code, stdout, stderr } = await dawnlm(["chat", "--model", folder, "--max-tokens", "24", "--max-model-len", "48"], { stdin });
  assert.is(code, 0, stderr);
  assert.match(stderr, /^dawnlm: [^\n]*--max-model-len is 48[^\n]*; \/reset forgets the conversation\n$/);
  const [first, second, ...rest] = stdout.split("\n");
  assert.ok(first !== "" && first === second, "the same question after /reset must get the same answer");
  assert.equal(rest, [""]);
});

test("Ctrl-C stops an answer and the conversation goes on", async () => {
  const { code, stdout, stderr } = await dawnlm(["chat", "--model", folder, "--max-tokens", "2000", "--ignore-eos"], {
    stdin: "My fellow citizens\n/reset\n", signalOnOutput: "SIGINT",
  });
  assert.is(code, 0, stderr);
  assert.ok(stdout.endsWith("\n"));
});

test("a model without a chat template is refused with what to do instead", async () => {
  const { code, stdout, stderr } = await dawnlm(["chat", "--model", "tiny-neox"], { stdin: "hello\n" });
  assert.is(code, 2);
  assert.match(stderr, /^dawnlm: [^\n]*no chat template[^\n]*dawnlm generate --model tiny-neox[^\n]*\n$/);
  assert.is(stdout, "");
});

test.run();
