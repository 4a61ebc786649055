"""A verification's report as a page for people."""

from qlora_studio.core.run.reports import VerificationReport

_LOSSES = {
    "base": "Base model",
    "adapter": "With the adapter, as trained",
    "adapter on 16 bit": "With the adapter, on the original weights",
    "merged": "This export",
    "gguf": "This export (GGUF)",
}


def verification_page(report: VerificationReport) -> str:
    """Return the page in Markdown."""
    verdict = "Every check passed." if report.verified else "Not every check passed."
    lines = [f"# Verification: {report.format}", "", verdict, "", "| Check | | |", "| --- | --- | --- |"]
    lines += [
        f"| {check.name} | {'ok' if check.passed else 'FAILED'} | {_cell(check.message)} |" for check in report.checks
    ]
    if report.way:
        how = "read layer by layer" if report.way == "streamed" else "loaded whole"
        lines += ["", f"The models were {how}. Verified in {report.seconds:,.0f} seconds."]
    losses = {name: value for name, value in report.losses.items() if value is not None}
    if losses:
        lines += ["", f"## Held-out loss, {report.tokens:,} tokens", "", "| | Loss |", "| --- | --- |"]
        lines += [f"| {_LOSSES.get(name, name)} | {value:.4f} |" for name, value in losses.items()]
    if ends := report.ends:
        lines += ["", "## Where answers end", "", f"{ends.words} {ends.warning}".strip()]
    if bases := report.bases:
        lines += ["", "## Which base to merge into", "", "| Merged into | Loss | Divergence |", "| --- | --- | --- |"]
        lines += [f"| {row.base} | {_number(row.loss)} | {_number(row.divergence)} |" for row in bases.bases]
        lines += [f"| not merged, as trained | {_number(bases.trained_loss)} | - |"]
        gain, error = bases.gain_of_nf4, bases.standard_error
        doubt = "" if gain is None or error is None else f" (the 4-bit base gains {gain:.4f} ± {2 * error:.4f})"
        lines += ["", f"Better here: {bases.recommended}{doubt}."]
    if report.answers:
        lines += ["", "## Answers", ""]
    for answer in report.answers:
        lines += [f"**{_cell(answer.prompt)}**", "", *_quote("adapter", answer.adapter)]
        lines += [] if answer.same else _quote("export", answer.export)
        lines += ["The same.", ""] if answer.same else [""]
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    return "\n".join([*lines, "", versions, ""])


def _cell(text: str) -> str:
    """Text that came from a model or a file, as it is: no markup."""
    plain = " ".join(str(text).split())
    for mark in "\\|<>`*_[]":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def _quote(who: str, text: str) -> list[str]:
    return [f"{who}:", "", *(f"    {line}" for line in str(text).splitlines() or [""]), ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
