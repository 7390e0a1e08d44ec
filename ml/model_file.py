"""Models on disk: one file of plain arrays and a JSON description, named after its content. No code is ever loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ml.linear import Linear
from ml.memory import Chain, Level, Memory, Table

if TYPE_CHECKING:
    from ml.classifier import Model

_FORMAT = 1
Arrays = dict[str, NDArray[Any]]


def digest(model: Model) -> str:
    """SHA-256 over names, types, shapes and bytes of what the model is made of, in hexadecimal."""
    found = hashlib.sha256()
    for name, array in sorted(_arrays(model).items()):
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def write(model: Model, folder: Path) -> Path:
    """The file, put in place at once; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.version}.npz"
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **dict(sorted(_arrays(model).items())))
    half.replace(path)
    return path


def read(path: Path) -> dict[str, Any]:
    """What a model is made of, by the names of its fields. Raises ValueError for another format than this one."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    described = json.loads(arrays["description"].tobytes())
    if described["format"] != _FORMAT:
        raise ValueError(f"{path.name}: models of format {described['format']} cannot be read, train anew")
    width = len(described["accounts"])
    tables = {
        (tuple(keys), half_life): Table(
            arrays[f"groups_{_named(keys, half_life)}"],
            _sparse(arrays, f"counts_{_named(keys, half_life)}", width),
        )
        for keys, half_life in described["tables"]
    }
    return {
        "accounts": tuple(described["accounts"]),
        "memory": Memory(tuple(_chain(chain) for chain in described["chains"]), tables),
        "weights": arrays["weights"],
        "linear": Linear(arrays["columns"], _sparse(arrays, "linear", width).toarray()),
        "trained_before": datetime.fromisoformat(described["trained_before"]),
        "labels": described["labels"],
    }


def _arrays(model: Model) -> Arrays:
    described = {
        "format": _FORMAT,
        "accounts": model.accounts,
        "chains": [asdict(chain) for chain in model.memory.chains],
        "tables": [[list(keys), half_life] for keys, half_life in model.memory.tables],
        "trained_before": model.trained_before.isoformat(),
        "labels": model.labels,
    }
    arrays = {
        "description": np.frombuffer(json.dumps(described, sort_keys=True).encode(), dtype=np.uint8),
        "weights": model.weights,
        "columns": model.linear.columns,
        **_parts("linear", sparse.csr_array(model.linear.weights), np.float16),
    }
    for (keys, half_life), table in model.memory.tables.items():
        name = _named(keys, half_life)
        arrays |= {f"groups_{name}": table.groups, **_parts(f"counts_{name}", table.counts, np.float32)}
    return arrays


def _named(keys: Sequence[str], half_life: float) -> str:
    return f"{'_'.join(keys)}_{half_life:g}"


def _chain(described: Mapping[str, Any]) -> Chain:
    levels = tuple(Level(tuple(level["keys"]), level["strength"]) for level in described["levels"])
    return Chain(described["name"], described["half_life_days"], levels)


def _parts(name: str, matrix: sparse.csr_array, values: type) -> Mapping[str, NDArray[Any]]:
    return {
        f"{name}_values": matrix.data.astype(values),
        f"{name}_accounts": matrix.indices.astype(np.uint16),
        f"{name}_begins": matrix.indptr.astype(np.int32),
    }


def _sparse(arrays: Arrays, name: str, width: int) -> sparse.csr_array:
    begins = arrays[f"{name}_begins"]
    entries = arrays[f"{name}_values"].astype(np.float32), arrays[f"{name}_accounts"].astype(np.int32), begins
    return sparse.csr_array(entries, shape=(len(begins) - 1, width))
