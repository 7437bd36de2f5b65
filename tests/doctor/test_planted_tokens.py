"""Defects that only show in token ids, or in what a chat template makes of messages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from radixcache.models.embedded import embedded_folder
from tests.doctor.planted import adds_up, diagnose, records, tokenizer, write

pytestmark = pytest.mark.model

MARKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if loop.last %}[now] {% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.data
def test_retokenised_answers(tmp_path: Path) -> None:
    """An engine generates its answer token by token; the next prompt holds its text tokenised anew."""
    backend = tokenizer().backend_tokenizer

    def ids(text: str) -> list[int]:
        return list(backend.encode(text, add_special_tokens=False).ids)

    log, exact = [], []
    for place in range(6):
        prompt = ids(f"<|im_start|>user\nTell me of place number {place}.<|im_end|>\n<|im_start|>assistant\n")
        words = "It is an extraordinarily interesting neighbourhood of unbelievable constructions"
        answer = [
            token for letters in words.split(" ") for token in ids(letters[:3]) + ids(letters[3:] + " ")
        ]
        text = backend.decode(answer, skip_special_tokens=False)
        turn = ids("<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n")
        first = {"session": f"s{place}", "prompt_token_ids": prompt, "output_token_ids": [*answer, 2]}
        log += [first, {"session": f"s{place}", "prompt_token_ids": prompt + ids(text) + turn}]
        exact += [first, {"session": f"s{place}", "prompt_token_ids": prompt + answer + turn}]
    diagnosis = diagnose(write(tmp_path / "log", log), "smollm2-135m", outputs=True)
    assert adds_up(diagnosis)
    first_finding = diagnosis.findings[0]
    assert first_finding.kind == "retokenised"
    assert first_finding.requests == 6
    example = first_finding.examples[0]
    assert "|" in example.left.differs
    assert example.left.differs.replace("|", "")[:6] == example.right.differs.replace("|", "")[:6]
    healthy = diagnose(write(tmp_path / "exact", exact), "smollm2-135m", outputs=True)
    assert "retokenised" not in {finding.kind for finding in healthy.findings}
    assert healthy.cached_tokens > diagnosis.cached_tokens


@pytest.mark.data
def test_a_template_that_marks_the_last_turn(tmp_path: Path) -> None:
    source = embedded_folder(lambda _: None)
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": MARKING}))
    (folder / "chat_template.jinja").write_text(MARKING)
    path = write(tmp_path / "log", records("multiturn_chat", 60))
    diagnosis = diagnose(path, str(folder))
    assert adds_up(diagnosis)
    first = diagnosis.findings[0]
    assert first.kind == "template_not_stable"
    example = first.examples[0]
    assert "[now]" in example.left.differs
    assert "[now]" not in example.right.differs
    assert first.edit is None
    assert "line 2 of the template" in first.advice
    assert diagnose(path).findings == []


@pytest.mark.data
@pytest.mark.parametrize("name", ["airline_agent", "multiturn_chat", "bbh_fewshot", "miniswe"])
def test_untouched_logs_add_up_and_raise_no_alarm(name: str, tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "log", records(name, 60)))
    assert adds_up(diagnosis)
    assert sum(row[6] for row in diagnosis.table.rows()) == diagnosis.cached_tokens
    assert diagnosis.findings == []
