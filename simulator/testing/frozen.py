"""What every method is: a frozen configuration."""

from pydantic import BaseModel, ValidationError


def check_frozen(made: BaseModel, key: str, name: str) -> None:
    """It has its name, cannot be changed, and takes no field that it does not know.

    Args:
        made: a method.
        key: of its name, ``method`` or ``kind``.
        name: under which it is registered.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    assert getattr(made, key) == name, f"{name}: its {key} is {getattr(made, key)!r}"
    changing = f"{name}: it can be changed; say frozen=True"
    try:
        setattr(made, key, "other")
    except (ValidationError, AttributeError):
        pass
    else:
        raise AssertionError(changing)
    fields = {field: getattr(made, field) for field in type(made).model_fields}
    try:
        type(made)(**fields, no_such_field=1)
    except ValidationError as error:
        assert "no_such_field" in str(error), f"{name}: its own values are refused: {error}"
    else:
        raise AssertionError(f"{name}: it takes unknown fields; say extra='forbid'")
