"""The command line: its words are frozen, its help is fast, its errors are one line."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from discern.cli import faults, main
from discern.cli.verbs import DATA_VERBS, GALLERY_VERBS, SEAL_VERBS, VERBS, command_line
from discern.errors import DataError, GateError, IntegrityError, UsageError

COMMON = {"--json", "--debug", "--help"}
TRAINING = {"--out", "--size", "--minutes", "--steps", "--seed", "--set", "--strict"}
# A new word here is a promise to every script that uses it: add to CHANGELOG.md and the docs too.
OPTIONS = {
    "demo": {"--out", "--minutes"},
    "doctor": set(),
    "pretrain": {*TRAINING, "--from", "--recipe", "--allow-change"},
    "train": {
        *TRAINING,
        *("--from", "--target-accuracy", "--patience", "--labels", "--unlabeled"),
        *("--batch", "--rate", "--allow-change", "--recipe", "--harden"),
    },
    "evaluate": {"--out", "--unknown", "--strict", "--views", "--merge", "--require-signature"},
    "compare": {"--out", "--labels", "--minutes", "--from", "--seed"},
    "predict": {"--top", "--save", "--views", "--precision", "--require-signature"},
    "generate": {"--out", "--count", "--label", "--walk", "--seed", "--require-signature"},
    "reconstruct": {"--out", "--mask", "--seed", "--require-signature"},
    "score": {
        *("--model", "--out", "--chunk", "--workers", "--ray", "--precision"),
        "--require-signature",
    },
    "explain": {"--out", "--method", "--label", "--seed", "--require-signature"},
    "serve": {
        *("--host", "--port", "--token-file", "--gallery", "--workers", "--tls-cert", "--tls-key"),
        *("--insecure", "--require-signature", "--may-enroll", "--watch", "--precision"),
    },
    "export": {"--to", "--out", "--precision", "--check", "--seed", "--require-signature"},
    "attack": {
        *("--norm", "--eps", "--suite", "--items", "--steps", "--out", "--at-least", "--seed"),
        *("--certify", "--require-signature"),
    },
    "tune": {
        *("--out", "--trials", "--from", "--labels", "--minutes", "--steps"),
        *("--budget", "--seed", "--set"),
    },
    "data check": {"--model", "--strict"},
    "gallery enroll": {"--model", "--source", "--require-signature"},
    "gallery identify": {"--model", "--top", "--require-signature"},
    "gallery verify": {"--model", "--require-signature"},
    "gallery calibrate": {"--model", "--false-match", "--require-signature"},
    "gallery list": set(),
    "gallery remove": set(),
    "seal keygen": {"--out", "--symmetric", "--passphrase-file"},
    "seal sign": {"--key", "--passphrase-file"},
    "seal verify": {"--key"},
    "seal encrypt": {"--out", "--passphrase-file", "--key-file"},
    "seal decrypt": {"--out", "--passphrase-file", "--key-file"},
    "data convert": {"--to", "--shards", "--gzip"},
}


def verb_words() -> list[str]:
    groups = {"data": DATA_VERBS, "gallery": GALLERY_VERBS, "seal": SEAL_VERBS}
    return [*VERBS, *(f"{group} {name}" for group, verbs in groups.items() for name in verbs)]


def long_options(verb: str) -> set[str]:
    command = command_line()
    for word in verb.split():
        command = command.commands[word]
    options = {"--help"}
    for parameter in command.params:
        options |= {word for word in parameter.opts if word.startswith("--")}
    return options


def test_verbs_are_frozen() -> None:
    assert set(verb_words()) == set(OPTIONS)


@pytest.mark.parametrize("verb", OPTIONS)
def test_options_are_frozen(verb: str) -> None:
    assert long_options(verb) == OPTIONS[verb] | COMMON


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: discern {verb}" in text
    assert all(option in text for option in OPTIONS[verb])


@pytest.mark.parametrize("words", [[], ["--help"], ["help"], ["-h"]])
def test_alone_it_lists_the_verbs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)
    assert "..." not in text.partition("Commands:")[2]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import discern

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"discern {discern.__version__}\n"


def test_help_is_fast_and_imports_no_torch() -> None:
    script = (
        "import sys; from discern.cli import main\n"
        f"for verb in {list(OPTIONS)!r}: assert main([*verb.split(), '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'av', 'sklearn', 'skimage', 'tensorboard', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)
    command = [sys.executable, "-m", "discern", "train", "--help"]
    assert best_seconds(command) < 0.5


def test_only_what_is_asked_for_is_built() -> None:
    whole = set(command_line().commands)
    assert whole == {*VERBS, "data", "gallery", "seal"}
    assert set(command_line(["train", "data"]).commands) == {"train"}
    assert set(command_line(["seal", "sign"]).commands) == {"seal"}
    assert set(command_line(["nonsense"]).commands) == whole


@pytest.mark.parametrize("words", [["nonsense", "--help"], ["data", "nonsense", "-h"]])
def test_help_for_no_verb_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "nonsense" in capsys.readouterr().err


def test_help_after_two_dashes_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "--", "--help"]) == 2
    assert "Usage" not in capsys.readouterr().out


def test_a_process_that_was_one_of_several_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from discern.scale import ranks

    ranks.leave(3)  # this one never was: it goes on
    left: list[int] = []
    monkeypatch.setattr(ranks, "leave", left.append)
    assert main(["nonsense"]) == 2 and left == []  # a caller's words
    monkeypatch.setattr(sys, "argv", ["discern", "nonsense"])
    assert main() == 2 and left == [2]


def test_predicting_imports_only_what_it_needs() -> None:
    script = (
        "import sys, discern.predict\n"
        "heavy = {'scipy', 'sklearn', 'skimage', 'av', 'tensorboard', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def best_seconds(command: list[str]) -> float:
    """Processor time of a command, the best of five: the machine may be busy with other things."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 0.25:
            break
    return min(seconds)


WRONG = [
    (["trian"], 2, "Did you mean 'train'"),
    (["check", "photos"], 2, "use `discern data check`"),
    (["finetune", "photos"], 2, "use `discern train --from`"),
    (["data", "chek", "photos"], 2, "Did you mean 'check'"),
    (["train"], 2, "Missing argument"),
    (["train", "photos"], 2, "Missing option '--out'"),
    (["train", "photos", "--out", "run", "--otu", "x"], 2, "No such option: --otu"),
    (["train", "fotos", "--out", "run"], 2, "did you mean photos?"),
    (["train", "nowhere/fotos", "--out", "run"], 2, "no folder nowhere"),
    (["train", "photos", "--out", "run", "--steps", "many"], 2, "--steps"),
    (["train", "photos", "--out", "run", "--steps", "0"], 2, "--steps"),
    (["train", "photos", "--out", "run", "--target-accuracy", "95"], 2, "write 0.95 for 95 %"),
    (["train", "photos", "--out", "run", "--target-accuracy", "nan"], 2, "between 0 and 1"),
    (["train", "photos", "--out", "run", "--minutes", "-1"], 2, "more than 0"),
    (["train", "photos", "--out", "run", "--rate", "inf"], 2, "more than 0"),
    (["train", "photos", "--out", "run", "--from", "pretrianed"], 2, "did you mean pretrained?"),
    (["pretrain", "photos", "--out", "run", "--minutes", "0"], 2, "more than 0"),
    (["compare", "photos", "--out", "run", "--labels", "10,some"], 2, "for example 10,100,all"),
    (["compare", "photos", "--out", "run", "--labels", "0"], 2, "for example 10,100,all"),
    (["predict", "photo.jpg", "pretrained"], 2, "the model comes first"),
    (["predict", "pretrained", "foto.jpg"], 2, "did you mean photo.jpg?"),
    (["predict", "pretrained"], 2, "Missing argument"),
    (["reconstruct", "pretrained", "photo.jpg", "--out", "a.png", "--mask", "75"], 2, "0.75"),
    (["data", "convert", "photos", "out", "--to", "tfrecords"], 2, "did you mean tfrecord?"),
    (["data", "convert", "photos", "out", "--to", "zip"], 2, "tfrecord, folder"),
    (["publish", "pretrained"], 2, "No such command 'publish'"),
]


@pytest.mark.parametrize(("words", "code", "fragment"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_use(
    words: list[str],
    code: int,
    fragment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "photo.jpg").touch()
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.startswith("discern: ")
    assert fragment in printed.err


def test_wrong_use_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "no-such-folder", "--out", "x", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 2 and "no-such-folder" in answer["error"]


FAULTS: list[tuple[BaseException, int, str]] = [
    (UsageError("pick another"), 2, "pick another"),
    (DataError("two\nlines"), 4, "two lines"),
    (GateError("differs"), 5, "differs"),
    (IntegrityError("altered"), 6, "altered"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (FileNotFoundError(errno.ENOENT, "", "a.jpg"), 2, "a.jpg: no such file"),
    (PermissionError(errno.EACCES, "", "b.jpg"), 2, "b.jpg: not allowed"),
    (IsADirectoryError(errno.EISDIR, "", "c"), 2, "c: this is a folder"),
    (NotADirectoryError(errno.ENOTDIR, "", "d/e"), 2, "d/e: a part of this path"),
    (FileExistsError(errno.EEXIST, "", "g"), 2, "g: a file of this name is in the way"),
    (OSError(errno.ENAMETOOLONG, "", "h"), 2, "h: the name is too long"),
    (OSError(errno.EIO, "", "i"), 1, "--debug shows where"),
    (OSError(errno.ENOSPC, "", "f"), 1, "disk is full for f"),
    (MemoryError(), 1, "smaller --batch"),
    (ModuleNotFoundError("", name="ray.util"), 2, "pip install 'discern[scale]'"),
    (ModuleNotFoundError("", name="torch"), 2, "pip install 'discern'"),
    (ZeroDivisionError("division by zero"), 1, "--debug shows where"),
]


@pytest.mark.parametrize(("error", "code", "fragment"), FAULTS, ids=lambda value: str(value)[:40])
def test_faults_are_one_line(error: BaseException, code: int, fragment: str) -> None:
    line, exit_code = faults.explain(error)
    assert exit_code == code and fragment in line and "\n" not in line


class Double:
    """Stands in for a function of the package: keeps what it was called with, answers as told."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.arguments: tuple[Any, ...] = ()
        self.settings: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        print("progress")
        self.arguments, self.settings = arguments, settings
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def install(patch: pytest.MonkeyPatch, module: str, name: str, result: Any) -> Double:
    double, stand_in = Double(result), ModuleType(module)
    setattr(stand_in, name, double)
    patch.setitem(sys.modules, module, stand_in)
    return double


RESULT = {"exit_code": 3, "stopped_by": "minutes", "accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}


def test_train_passes_its_words_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    double = install(monkeypatch, "discern.recipes.train", "train", RESULT)
    words = ["train", str(tmp_path), "s3://bucket/more", "--out", "a run", "--labels", "10"]
    words += ["--target-accuracy", "0.9", "--set", "a.b=1", "--set", "c=2", "--from", str(tmp_path)]
    assert main(words) == 3
    assert double.arguments == ([str(tmp_path), "s3://bucket/more"], Path("a run"))
    expected = {"labels": 10, "target_accuracy": 0.9, "overrides": ["a.b=1", "c=2"], "seed": 0}
    assert expected.items() <= double.settings.items()
    assert double.settings["base"] == str(tmp_path)
    printed = capsys.readouterr().out
    assert "stopped by  minutes" in printed
    assert "50.0%  (95 %: 40.0% to 60.0%)" in printed
    assert printed.splitlines()[-1].startswith("next: discern evaluate 'a run' ")


def test_predict_takes_folders_and_saves_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    deep = tmp_path / "photos" / "deep"
    deep.mkdir(parents=True)
    for name in ("b.png", "a.MP4", "notes.txt"):
        (deep / name).write_bytes(b"")
    rows = [
        {"file": "a.MP4", "label": "cat, or not", "probability": 0.5, "unknown": True, "top": []},
        {"file": "b.png", "error": "no picture"},
    ]
    double = install(monkeypatch, "discern.predict", "predict_files", rows)
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "photos")]
    assert main([*words, "--save", str(tmp_path / "out" / "x.csv")]) == 4
    assert double.arguments[1] == [deep / "a.MP4", deep / "b.png"]
    saved = (tmp_path / "out" / "x.csv").read_text().splitlines()
    assert saved[0] == "file,kind,label,probability,unknown,error"
    assert saved[1:] == ['a.MP4,,"cat, or not",0.5,True,', "b.png,,,,,no picture"]
    main([*words, "--save", str(tmp_path / "x.jsonl")])
    assert [json.loads(x) for x in (tmp_path / "x.jsonl").read_text().splitlines()] == rows
    assert main([*words, "--save", str(tmp_path / "x.xlsx")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(tmp_path / "model"), str(tmp_path / "empty")]) == 4
    capsys.readouterr()


@pytest.mark.parametrize("size", ["8/255", "linf", "linf:0", "linf:x/2", "l1:3", "l2:1/0"])
def test_harden_wants_a_norm_and_a_size(size: str, tmp_path: Path) -> None:
    assert main(["train", str(tmp_path), "--out", "run", "--harden", size]) == 2


def test_harden_becomes_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = install(monkeypatch, "discern.recipes.train", "train", RESULT)
    main(["train", str(tmp_path), "--out", "run", "--harden", "linf:8/255", "--set", "a=1"])
    chosen = ["objective=hardened", "harden.norm=linf", f"harden.eps={8 / 255!r}", "a=1"]
    assert double.settings["overrides"] == chosen


def test_json_is_all_of_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "discern.recipes.train", "train", {**RESULT, "loss": float("nan")})
    assert main(["train", str(tmp_path), "--out", "run", "--json"]) == 3
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["accuracy"] == 0.5 and answer["loss"] is None and "discern" in answer["next"]
    assert printed.err == "progress\n"


@pytest.mark.parametrize(
    ("words", "result", "said"),
    [
        ([], {"steps": 620}, True),
        ([], {"steps": 1500}, False),
        ([], {"steps": 620, "stopped_by": "steps"}, False),
        (["--size", "nano"], {"steps": 620}, False),
        (["--json"], {"steps": 620}, False),
    ],
)
def test_a_pretraining_of_few_steps_names_the_way_out(
    words: list[str],
    result: dict[str, Any],
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, "discern.recipes.pretrain", "pretrain", {**RESULT, **result})
    monkeypatch.setitem(sys.modules, "discern.recipes.fit", SimpleNamespace(ENOUGH={True: 1500}))
    main(["pretrain", str(tmp_path), "--out", "run", *words])
    out = capsys.readouterr().out
    assert ("steps are few" in out) == said == ("--size auto" in out)


def test_ctrl_c_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "discern.recipes.pretrain", "pretrain", KeyboardInterrupt())
    assert main(["pretrain", str(tmp_path), "--out", "run"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_traceback_only_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "discern.recipes.pretrain", "pretrain", RuntimeError("a bug"))
    assert main(["pretrain", str(tmp_path), "--out", "run"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["pretrain", str(tmp_path), "--out", "run", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "a.jpg"
    photo.touch()
    good = {"file": "a.jpg", "top": [{"label": "cat", "probability": 0.75}]}
    bad = {"file": "b.jpg", "error": "not an image"}
    double = install(monkeypatch, "discern.predict", "predict_files", [good])
    assert main(["predict", str(tmp_path), str(photo), "--top", "2"]) == 0
    assert double.arguments == (tmp_path, [photo], 2)
    assert "a.jpg  cat 75.0%" in capsys.readouterr().out
    install(monkeypatch, "discern.predict", "predict_files", [good, bad])
    assert main(["predict", str(tmp_path), str(photo), "--json"]) == 4
    assert json.loads(capsys.readouterr().out) == [good, bad]


def test_blocks_become_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = {"images": {"pretrained": {"accuracy": 0.9}, "hog_svm": {"accuracy": 0.8}}}
    install(monkeypatch, "discern.recipes.demo", "run", blocks)
    assert main(["demo", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["images", "pretrained", "90.0%"]
    assert lines[2].split() == ["images", "hog_svm", "80.0%"]


def test_a_reader_that_leaves_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "discern.recipes.demo", "run", BrokenPipeError())
    stdout = sys.stdout
    try:
        assert main(["demo", "--out", str(tmp_path)]) == 0
    finally:
        sys.stdout = stdout
    assert capsys.readouterr().err == ""
