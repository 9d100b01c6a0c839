"""The one shape of every error: RFC 9457 problem JSON."""

from pydantic import BaseModel, ConfigDict, Field


class FieldProblem(BaseModel):
    """An invalid field of a body, path or query."""

    field: str = Field(description="Name of the field; body or query for the whole of it.")
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """An error a caller can act on; some carry further facts, such as ``needed`` and ``found``."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:stock-forecast:ticker_not_found",
                "title": "Ticker not found",
                "status": 404,
                "detail": "Yahoo does not know NOPE",
                "code": "ticker_not_found",
                "request_id": "0f8e2c5c9b7a4d0c8d6b1e2f3a4b5c6d",
            }
        },
    )

    type: str = Field(description="urn:stock-forecast: and the code.")
    title: str = Field(description="The kind of error, in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What happened, for people; may change.")
    code: str = Field(description="Stable name of the error; see docs/errors.md.")
    request_id: str = Field(description="Finds the request in the server's log.")
    errors: list[FieldProblem] | None = Field(default=None, description="With 422: the invalid fields.")
