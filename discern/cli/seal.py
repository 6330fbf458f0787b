"""Verbs that sign, check, lock and unlock models: keys and bundles come in, files go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import AsJson, Debug, Model
from discern.errors import UsageError

Phrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="F", help="A file whose first line it is."),
]
Secret = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="F", help="A key of `keygen --symmetric`."),
]


def keygen(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The private key.")],
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="A key to encrypt with, not one to sign with.")
    ] = False,
    passphrase: Phrase = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make a key to sign with (and its public half), or one to encrypt with."""
    from discern.seal import keys

    if symmetric:
        if passphrase is not None:
            raise UsageError("--passphrase-file: a symmetric key is not locked: guard the file")
        return answer.finish({"out": str(keys.make_secret(out))}, as_json)
    phrase = None if passphrase is None else keys.read_passphrase(passphrase)
    private, public = keys.make_signing_key(out, phrase)
    result = {"out": str(private), "public": str(public)}
    result["key_id"] = keys.key_id(keys.read_public(public))
    then = answer.command("discern", "seal", "sign", "MODEL", "--key", private)
    return answer.finish(result, as_json, then)


def sign(
    model: Model,
    key: Annotated[Path, typer.Option("--key", metavar="KEY", help="The private key.")],
    passphrase: Phrase = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Sign a model: who holds the public key can check that every byte is yours."""
    from discern.seal import keys
    from discern.seal.sign import sign as work

    folder = _bundle(model)
    phrase = None if passphrase is None else keys.read_passphrase(passphrase)
    said = work(folder, keys.read_private(key, phrase))
    result = {"verb": "sign", "model": str(folder), "key_id": said["key_id"]}
    then = answer.command("discern", "seal", "verify", folder, "--key", f"{key}.pub")
    return answer.finish(result, as_json, then)


def verify(
    model: Model,
    key: Annotated[Path, typer.Option("--key", metavar="KEY.pub", help="The public key.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Check that a model is signed by a key and unaltered; exit code 6 where it is not."""
    from discern.seal import keys
    from discern.seal.sign import verify as work

    folder = _bundle(model)
    found = work(folder, keys.read_public(key))
    return answer.finish({"verb": "verify", "model": str(folder), **found}, as_json)


def encrypt(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    passphrase: Phrase = None,
    key: Secret = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Lock a model into one file that only a key or passphrase opens."""
    from discern.seal.encrypt import encrypt as work

    folder = _bundle(model)
    return answer.finish(
        {"verb": "encrypt", **work(folder, out, **_opener(passphrase, key))}, as_json
    )


def decrypt(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="A locked model.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")],
    passphrase: Phrase = None,
    key: Secret = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Unlock a model; nothing is written unless every byte of it is right."""
    from discern.seal.encrypt import decrypt as work

    words.existing(file, "file")
    return answer.finish(
        {"verb": "decrypt", **work(file, out, **_opener(passphrase, key))}, as_json
    )


def _bundle(model: Path) -> Path:
    """The bundle's folder, from itself or from the run around it; no torch is loaded for it."""
    folder = words.model(model)
    for one in (folder, folder / "model"):
        if (one / "manifest.json").is_file():
            return one
    raise UsageError(f"{model}: no model in it: name a run folder that has finished, or its model")


def _opener(passphrase: Path | None, key: Path | None) -> dict[str, bytes]:
    from discern.seal import keys

    if (passphrase is None) == (key is None):
        raise UsageError("give one of --passphrase-file and --key-file")
    if key is not None:
        return {"key": keys.read_secret(key)}
    assert passphrase is not None
    return {"passphrase": keys.read_passphrase(passphrase)}
