"""TensorFlow Serving's REST form of predictions, versions and metadata: JSON to arrays and back.

Reference: https://www.tensorflow.org/tfx/serving/api_rest
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson  # it reads a row of 784 numbers ten times as fast as json, and writes float32 in half the digits
from starlette.responses import Response

if TYPE_CHECKING:  # so that this module works without TensorFlow
    from .versions import ServedSignature, Version

NOT_JSON = re.compile(r".??(-?(?:nan|inf(?:inity)?)\b)", re.IGNORECASE | re.DOTALL)  # as many programs write it


class RequestError(Exception):
    """A request that is refused, with an HTTP status and a message, which is sent as {"error": ...}."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.unread = False  # whether more of the body may come


def choose_version(versions: "dict[str, Version]", number: str | None) -> "tuple[str, Version]":
    """Return the number and the Version that a request asks for; None asks for the newest."""
    if not versions:
        raise RequestError(503, "Expected a loaded version. Received: none yet. Try again, and see the server's log.")
    number = next(iter(versions)) if number is None else number
    if number not in versions:
        raise RequestError(404, f"Expected one of the versions {', '.join(versions)}. Received: {shortened(number)}.")
    return number, versions[number]


def read_object(body: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object of a request. NaN and Infinity are no JSON."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        word = NOT_JSON.match(error.doc, max(error.pos - 1, 0))
        received = f"{word[1]}, which is not JSON, in line {error.lineno}, column {error.colno}" if word else error
        raise RequestError(400, f"Expected a JSON object. Received: {received}.") from error
    if not isinstance(request, dict):
        raise RequestError(400, f'Expected a JSON object with "instances" or "inputs". Received: {kind(request)}.')
    return request


def read_signature(request: dict[str, Any], version: "Version") -> "tuple[str, ServedSignature]":
    """Return the name and the signature that a request asks for."""
    name = request.get("signature_name") or "serving_default"
    if not isinstance(name, str) or name not in version.signatures:
        known = ", ".join(sorted(version.signatures))
        raise RequestError(400, f'Expected a "signature_name" among: {known}. Received: {shortened(name)}.')
    return name, version.signatures[name]


def read_k(request: dict[str, Any], name: str, signature: "ServedSignature") -> int | None:
    """Return how many units of a row the request asks for, of the signature `top`; None for all that it gives."""
    if "k" not in request:
        return None
    if signature.outputs.keys() != {"indices", "values"}:
        raise RequestError(400, f'Expected "k" with the signature top alone. Received: "k" with {name}.')
    k, most = request["k"], signature.outputs["indices"].shape[1]
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= most:
        raise RequestError(400, f'Expected "k" as a whole number from 1 to {most}. Received: {shortened(k)}.')
    return k


def read_arrays(
    request: dict[str, Any], signature: "ServedSignature", largest_rows: int
) -> tuple[dict[str, np.ndarray], int | None]:
    """Return the arrays by input name, and the number of rows in the row form or None in the columnar form."""
    given = [key for key in ("instances", "inputs") if key in request]
    if len(given) != 1:
        raise RequestError(
            400, f'Expected one of "instances" and "inputs". Received: {" and ".join(given) or "neither"}.'
        )
    rows = None
    if given == ["instances"]:
        columns = columns_of(request["instances"], signature, largest_rows)
        rows = len(request["instances"])
    else:
        columns = request["inputs"]
        if not isinstance(columns, dict):
            columns = {only(signature.inputs, '"inputs" as an object'): columns}
    check_names(columns, signature.inputs)
    arrays = {name: read_array(columns[name], spec, name) for name, spec in signature.inputs.items()}
    if signature.batched:
        check_rows({name: len(array) for name, array in arrays.items()}, largest_rows)
    return arrays, rows


def columns_of(instances: Any, signature: "ServedSignature", largest_rows: int) -> dict[str, list]:
    """Return the values by input name of the row form: plain values of the only input, or objects."""
    if not isinstance(instances, list) or not instances:
        raise RequestError(400, f'Expected "instances" as a list with a row or more. Received: {kind(instances)}.')
    if len(instances) > largest_rows:
        raise RequestError(
            400, f"Expected {largest_rows} rows or fewer. Received: {len(instances)}. Send several requests."
        )
    objects = sum(isinstance(instance, dict) for instance in instances)
    if not objects:
        return {only(signature.inputs, "objects"): instances}
    if objects < len(instances):
        raise RequestError(400, 'Expected "instances" to be all objects or all plain values. Received: both.')
    for instance in instances:
        check_names(instance, signature.inputs)
    return {name: [instance[name] for instance in instances] for name in signature.inputs}


def only(inputs: dict[str, Any], otherwise: str) -> str:
    """Return the name of the only input."""
    if len(inputs) != 1:
        raise RequestError(400, f"Expected {otherwise}, with the inputs {', '.join(inputs)}. Received: plain values.")
    return next(iter(inputs))


def check_names(values: dict[str, Any], inputs: dict[str, Any]) -> None:
    if values.keys() != inputs.keys():
        names = ", ".join(shortened(name) for name in list(values)[:10]) or "none"
        raise RequestError(400, f"Expected the inputs {', '.join(inputs)}. Received: {names}.")


def check_rows(rows: dict[str, int], largest: int) -> None:
    if len(set(rows.values())) > 1:
        raise RequestError(400, f"Expected as many rows of each input. Received: {rows}.")
    number = next(iter(rows.values()))
    if not 1 <= number <= largest:
        raise RequestError(400, f"Expected 1 to {largest} rows. Received: {number}. Send several requests for more.")


def read_array(values: Any, spec: Any, name: str) -> np.ndarray:
    """Return the array that a TensorSpec asks for. Raise RequestError for another shape, kind or size of number."""
    expected = f"Expected {name} of shape {describe_shape(spec.shape)} and type {spec.dtype.name}."
    text = spec.dtype.name == "string"
    try:
        array = np.array(values, dtype=object if text else None)
    except (ValueError, OverflowError) as error:
        raise RequestError(400, f"{expected} Received: rows of different lengths, or mixed values.") from error
    if not spec.shape.is_compatible_with(array.shape):
        raise RequestError(400, f"{expected} Received: shape {describe_shape(array.shape)}.")
    if text:
        if not all(isinstance(value, str) for value in array.flat):
            raise RequestError(400, f"{expected} Received: values that are no strings.")
        return array
    return to_number(array, spec.dtype, expected)


def to_number(array: np.ndarray, dtype: Any, expected: str) -> np.ndarray:
    """Return the array in a type of TensorFlow. Raise RequestError if a value does not fit into it."""
    allowed = "b" if dtype.is_bool else "iu" if dtype.is_integer else "iuf" if dtype.is_floating else ""
    if array.dtype.kind not in allowed:
        found = {"U": "strings", "b": "true or false", "f": "numbers with a fraction"}.get(
            array.dtype.kind, "no numbers"
        )
        raise RequestError(400, f"{expected} Received: {found}.")
    if dtype.is_integer and array.size and not dtype.min <= array.min() <= array.max() <= dtype.max:
        raise RequestError(400, f"{expected} Received: numbers from {array.min()} to {array.max()}.")
    with np.errstate(over="ignore"):  # seen by the next line
        converted = array.astype(dtype.as_numpy_dtype)
    if dtype.is_floating and not np.isfinite(converted).all():
        raise RequestError(400, f"{expected} Received: numbers too large for it.")
    return converted


def write_outputs(outputs: dict[str, np.ndarray], rows: int | None, k: int | None = None) -> bytes:
    """Return the JSON of an answer: {"predictions": ...} for the row form, {"outputs": ...} for the columnar form.

    k: of the signature `top`, how many units of a row; those that are not active are left out.
    """
    values = {name: jsonable(array, name) for name, array in outputs.items()}
    if k is not None:
        active = np.count_nonzero(outputs["values"][:, :k], axis=1)  # they come first
        values = {name: [row[:number] for row, number in zip(array, active, strict=True)]
                  for name, array in values.items()}  # fmt: skip
    if rows is None:
        return dump({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    if any(not np.ndim(array) or len(array) != rows for array in outputs.values()):
        raise RequestError(
            400, 'Expected outputs of one row each. Received: others; ask with "inputs", not "instances".'
        )
    if len(values) == 1:
        return dump({"predictions": next(iter(values.values()))})
    return dump({"predictions": [{name: value[row] for name, value in values.items()} for row in range(rows)]})


def jsonable(array: np.ndarray, name: str) -> Any:
    """Return the array in a type that orjson writes."""
    if array.dtype == object:
        return np.vectorize(lambda value: value.decode("utf-8", "replace"), otypes=[object])(array).tolist()
    if array.dtype.kind not in "biuf":  # bfloat16 and the like, which are none of NumPy's own
        array = array.astype("float32")
    if not np.isfinite(array).all():
        raise RequestError(
            400, f"Expected inputs of a size that the model knows. Received: some that make {name} not finite."
        )
    return np.ascontiguousarray(array) if array.ndim else array.item()


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return {"error": message}, as TensorFlow Serving answers every error."""
    return Response(dump({"error": message}), status, headers, "application/json")


def dump(value: Any) -> bytes:
    """Return a value as JSON, NumPy arrays included."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def status(states: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Return what is said of versions, from the number, state and error of each."""
    return {
        "model_version_status": [
            {
                "version": number,
                "state": state,
                "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
            }
            for number, state, error in states
        ]
    }


def metadata(name: str, number: str, version: "Version") -> dict[str, Any]:
    """Return what is said of a version's signatures and, which TensorFlow Serving does not know, of its rows."""
    schema = {"schema": version.schema} if version.schema else {}
    return {
        "model_spec": {"name": name, "signature_name": "", "version": number},
        "metadata": {"signature_def": {"signature_def": version.signature_def}, **schema},
    }


def describe_shape(shape: Any) -> str:
    """Return a shape in words: "(rows, 784)" for (None, 784)."""
    if getattr(shape, "rank", 0) is None:
        return "of any rank"
    sizes = ["rows" if size is None and not axis else "any" if size is None else str(size)
             for axis, size in enumerate(tuple(shape))]  # fmt: skip
    return f"({', '.join(sizes)})"


def kind(value: Any) -> str:
    """Return what kind of JSON value this is, in words."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return {dict: "an object", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def shortened(value: Any) -> str:
    return repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}..."
