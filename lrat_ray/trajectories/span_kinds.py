"""What a span stands for, told from the conventions for generative AI, OpenInference and OpenLLMetry."""

from __future__ import annotations

from lrat_ray.trajectories.dialect import Dialect
from lrat_ray.trajectories.telemetry import Span

_KINDS = {
    "execute_tool": "tool",
    "retrieval": "retriever",
    "chat": "llm",
    "text_completion": "llm",
    "generate_content": "llm",
    "invoke_agent": "agent",
}


def kind_of(span: Span) -> str:
    """llm, tool, retriever, agent, or "" for anything else."""
    operation = _KINDS.get(span.text("gen_ai.operation.name"), "")
    kind = span.text("openinference.span.kind", "traceloop.span.kind").lower()
    if kind in ("llm", "tool", "retriever", "agent"):
        return operation or kind
    has_tool = span.get("gen_ai.tool.name") is not None
    is_old_llm = span.get("gen_ai.completion", "gen_ai.prompt", "llm.request.type") is not None
    return operation or ("tool" if has_tool else "llm" if is_old_llm else "")


def outermost(spans: list[Span], dialect: Dialect) -> list[Span]:
    """Spans that are the agent's own: none inside a search or a browse, no LLM call inside another (of a wrapping library)."""
    by_id = {span.span_id: span for span in spans if span.span_id}
    kept = []
    for span in spans:
        above, passed = by_id.get(span.parent_id), {span.span_id}
        while above is not None and above.span_id not in passed:
            is_call = kind_of(above) == "retriever" or (
                kind_of(above) == "tool" and dialect.kind_of(tool_name(above)) != "other"
            )
            if is_call or (kind_of(span) == kind_of(above) == "llm"):
                break
            passed.add(above.span_id)
            above = by_id.get(above.parent_id)
        else:
            kept.append(span)
    return kept


def tool_name(span: Span) -> str:
    """The name of the tool that a span ran."""
    name = span.text("gen_ai.tool.name", "tool.name", "tool_call.function.name", "traceloop.entity.name")
    return name or span.name.removeprefix("execute_tool ")
