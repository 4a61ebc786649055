"""The checks of a dataset before a run: each one sentence, green or not."""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.base_templates import AUTO, base_template_of
from qlora_studio.core.data.report import Check, LengthStatistics, Level, kept_by
from qlora_studio.core.data.template_variables import variables_text
from qlora_studio.core.quantity import counted
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.data.prepared import PreparedData
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.data.tokenized_rows import IGNORED
from qlora_studio.engine.templates.base_template import template_name
from qlora_studio.engine.templates.completeness import EARLIER
from qlora_studio.engine.templates.rendering import HOW_WORDS

TITLES = {  # what a check is called where it passed, and where it failed: neither may be read as the other
    "rows_read": ("Every row was read", "Some rows were not read"),
    "template_present": ("There is a chat template", "The model has no chat template of its own"),
    "same_prompt": (
        "The template renders the same while chatting as while training",
        "The template renders otherwise while chatting than while training",
    ),
    "template_variables_read": (
        "The template reads the variables that are set",
        "The template does not read all variables that are set",
    ),
    "template_takes_rows": (
        "The template takes the rows as they are",
        "The template does not take all rows as they are",
    ),
    "template_shows_everything": (
        "The template shows everything that the rows say",
        "The template leaves out some of what the rows say",
    ),
    "trained_share": ("Enough of the text is trained", "Very little of the text is trained"),
    "end_of_turn_trained": (
        "Every answer ends with a trained end-of-turn token",
        "Some answers end without a trained end-of-turn token",
    ),
    "single_bos": ("One begin-of-text token at most", "Some rows begin with two begin-of-text tokens"),
    "padding_not_trained": (
        "Padding is not trained, and hides no trained token",
        "Padding would change what is trained",
    ),
    "nothing_cut": ("No answer is cut off", "Answers are cut off"),
    "rows_trainable": ("Every row has something to train", "Some rows have nothing to train"),
    "rows_excluded": ("What you leave out by hand is found", "Some rows that you leave out by hand are not found"),
    "no_control_tokens_in_text": ("Nobody typed control tokens", "Some prompts hold control tokens"),
    "rows_in_a_batch": ("Rows share a batch", "Rows share a batch"),
    "packing_pays": ("Packing saves padding", "Packing saves hardly any padding"),
    "no_duplicates": ("No row comes twice", "Some rows come twice"),
    "evaluation_apart": (
        "The evaluation file is read, and apart from the training rows",
        "Not every row of the evaluation file can be used",
    ),
    "answers_found": ("The answers are found exactly", "Some answers cannot be told from the rest"),
}

_FEW_TRAINED = 0.01
_SAVED_BY_PACKING = 0.05


def checks_of(
    data: PreparedData,
    config: RunConfig,
    lengths: LengthStatistics | None,
    *,
    with_trainer: bool = True,
) -> tuple[Check, ...]:
    """Return every check of prepared rows, in the order in which they are read.

    The last needs the trainer's collator, and trl takes seconds to import; it can be left for later.
    """
    checks = tuple(_checks(data.tally, config, data.plan.tokenizer, lengths))
    if lengths is not None:
        checks = (*checks, _rows_in_a_batch(lengths))
        if config.training.packing:
            checks = (*checks, _packing(data, lengths))
    return (*checks, _padding(data, data.plan.tokenizer)) if with_trainer else checks


def _checks(
    tally: RowTally, config: RunConfig, tokenizer: PreTrainedTokenizerBase, lengths: LengthStatistics | None
) -> Iterator[Check]:
    yield _rows_read(tally, config)
    if set(tally.how) - {"text"} or tally.hidden:
        yield _template(tokenizer, config.data.chat_template)
        yield _mask(tally, config)
        yield _prompt(tally)
        if tally.variables or config.data.template_variables:
            yield _variables(tally, config)
        if tally.changed:
            yield _changed(tally)
        if tally.lost:
            yield _lost(tally, config)
    yield _trained_share(tally)
    yield _end_of_turn(tally, config)
    yield _bos(tally)
    yield _truncation(tally, config, lengths)
    yield _untrainable(tally, config)
    if config.data.exclude:
        yield _excluded(tally, config)
    yield _control(tally)
    yield _duplicates(tally, config)
    if tally.evaluation:
        yield _evaluation(tally)


def _check(name: str, passed: bool, good: str, bad: str, level: Level = "warning") -> Check:
    return Check(
        name=name,
        title=TITLES[name][not passed],
        passed=passed,
        message=good if passed else bad,
        level="ok" if passed else level,
    )


def _rows_read(tally: RowTally, config: RunConfig) -> Check:
    rejected, total = tally.verdicts["rejected"], sum(tally.verdicts.values())
    stops = config.data.bad_rows == "stop" or rejected == total
    return _check(
        "rows_read",
        total > 0 and rejected == 0,
        f"Read: {counted(total, 'row')}.",
        f"{rejected:,} of {total:,} rows were rejected{'' if stops else ' and are left out'}.",
        "error" if stops else "warning",
    )


def _template(tokenizer: PreTrainedTokenizerBase, wish: str) -> Check:
    found = base_template_of(str(tokenizer.chat_template))
    chosen = wish != AUTO
    why = "As you chose:" if chosen else "The model has no chat template:"
    cost = f" {found.cost}" if found else ""
    return _check(
        "template_present",
        template_name(tokenizer) == "model" or chosen,
        f"{why} {template_name(tokenizer)}, saved with the adapter.{cost}"
        if chosen
        else "The model's own chat template is used.",
        f"{why} a {template_name(tokenizer)} one is used, and saved with the adapter.{cost} Others can be chosen "
        "(data.chat_template).",
    )


def _mask(tally: RowTally, config: RunConfig) -> Check:
    apart = f" Answers that are not learned, as marked or chosen: {tally.unlearned:,}." if tally.unlearned else ""
    if config.training.loss_on == "all":
        return _check("answers_found", True, f"Not needed: the full text is trained, as you chose.{apart}", "")
    ways = [HOW_WORDS[how] for how, _ in tally.how.most_common() if how != "text"]
    chats = sum(tally.how.values()) - tally.how["text"]
    return _check(
        "answers_found",
        tally.hidden == 0,
        f"In {counted(chats, 'conversation')}, which is every one: {', or '.join(ways)}.{apart}",
        f"The template does not show where the answers begin and end in {tally.hidden:,} conversations. They can be "
        "trained only with their full text.",
        "error" if not chats or config.data.bad_rows == "stop" else "warning",
    )


def _prompt(tally: RowTally) -> Check:
    return _check(
        "same_prompt",
        tally.unprompted == 0,
        "Up to the last answer, each row is what the model is given when it is asked.",
        f"In {counted(tally.unprompted, 'row')} the text before the last answer differs from what the model is given "
        "when it is asked for it.",
    )


def _variables(tally: RowTally, config: RunConfig) -> Check:
    """Variables are for the template: one that it does not read is a slip of the pen, or for another model."""
    run, rows = config.data.template_variables, tally.variables
    parts = [f"The run sets {variables_text(run)}."] if run else []
    parts += [f"Rows set {', '.join(f'{name} ({count:,})' for name, count in rows.most_common())}."] if rows else []
    words = " ".join(parts)
    return _check(
        "template_variables_read",
        not tally.unread_variables,
        words,
        f"{words} The template does not read {', '.join(tally.unread_variables)}: that changes nothing.",
    )


def _changed(tally: RowTally) -> Check:
    parts = "; ".join(f"in {counted(count, 'row')} {what}" for what, count in tally.changed.most_common())
    return _check("template_takes_rows", False, "", f"Not all of them: {parts}.")


def _lost(tally: RowTally, config: RunConfig) -> Check:
    parts = ", ".join(f"{what} ({counted(count, 'row')})" for what, count in tally.lost.most_common())
    tokens = f" The reasoning that it leaves out has {tally.dropped_tokens:,} tokens." if tally.dropped_tokens else ""
    keep = (
        ' data.reasoning = "keep" learns what of it the template can show, in longer rows.'
        if _can_keep(tally, config)
        else ""
    )
    return _check(
        "template_shows_everything",
        False,
        "",
        f"It leaves out: {parts}. Nothing of that is learned.{tokens}{keep}",
    )


def _can_keep(tally: RowTally, config: RunConfig) -> bool:
    return EARLIER in tally.lost and config.data.reasoning == "template" and config.training.loss_on != "all"


def _trained_share(tally: RowTally) -> Check:
    tokens, trained = int(tally.column("tokens").sum()), int(tally.column("trained").sum())
    share = trained / tokens if tokens else 0.0
    words = f"{share:.1%} of the tokens are trained ({trained:,} of {tokens:,})"
    return _check(
        "trained_share",
        share >= _FEW_TRAINED,
        f"{words}.",
        f"{words}: very few." if trained else "No token is trained.",
        "warning" if trained else "error",
    )


def _end_of_turn(tally: RowTally, config: RunConfig) -> Check:
    """An end that is there and then cut off is not learned either."""
    rows, named = len(tally.columns["number"]), " or ".join(tally.added_ends)
    added = f" The template leaves the last turn open: {named} is put there." if named else ""
    cut = int((tally.column("kept") < tally.column("trained")).sum())
    bad = [f"In {tally.open_ends:,} of {rows:,} rows an answer ends without one."] if tally.open_ends else []
    bad += [f"In {cut:,} of {rows:,} rows it is cut off at {config.training.max_length:,} tokens."] if cut else []
    bad += ["The model may not learn to stop."] if bad else []
    bad += [f"In {counted(tally.doubled_ends, 'row')} an end token is trained twice."] if tally.doubled_ends else []
    return _check(
        "end_of_turn_trained",
        not bad,
        f"In {counted(rows, 'row')}, which is every one.{added}",
        " ".join(bad),
    )


def _bos(tally: RowTally) -> Check:
    return _check(
        "single_bos",
        tally.double_bos == 0,
        "No row begins with two of them.",
        f"In {counted(tally.double_bos, 'row')} there are two of them.",
    )


def _padding(data: PreparedData, tokenizer: PreTrainedTokenizerBase) -> Check:
    """Put a short and a long row into a batch, as the trainer does, and look at the labels."""
    shared = tokenizer.pad_token_id == tokenizer.eos_token_id
    return _check(
        "padding_not_trained",
        _padding_is_harmless(data, tokenizer),
        "Padding has a token of its own."
        if not shared
        else "Padding uses the end-of-text token, and is told from a real one by its place.",
        "Padding would change what is trained.",
        "error",
    )


def _padding_is_harmless(data: PreparedData, tokenizer: PreTrainedTokenizerBase) -> bool:
    from qlora_studio.engine.data.collator import collator

    if not len(data.training):
        return True
    tokens = row_lengths(data.training)
    rows = [data.training[int(tokens.argmin())], data.training[int(tokens.argmax())]]
    longest = max(len(row["labels"]) for row in rows)
    batch = collator(tokenizer)(rows)
    wanted = [row["labels"] + [IGNORED] * (longest - len(row["labels"])) for row in rows]
    return bool(batch["labels"].tolist() == wanted)


def _truncation(tally: RowTally, config: RunConfig, lengths: LengthStatistics | None) -> Check:
    trained, kept = tally.column("trained"), tally.column("kept")
    lost, total, rows = int((trained - kept).sum()), int(trained.sum()), int((kept < trained).sum())
    limit = config.training.max_length
    return _check(
        "nothing_cut",
        lost == 0,
        f"Every answer fits into {limit:,} tokens.",
        f"{rows:,} {'answer loses its' if rows == 1 else 'answers lose their'} end at {limit:,} tokens: "
        f"{lost:,} answer tokens, {lost / max(1, total):.1%}. {kept_by(lengths.keeps) if lengths else ''}",
    )


def _untrainable(tally: RowTally, config: RunConfig) -> Check:
    left = int((tally.column("kept") > 0).sum())
    reasons = "; ".join(f"{count:,}: {reason}" for reason, count in tally.errors.most_common(3))
    return _check(
        "rows_trainable",
        tally.untrainable == 0 and left > 0,
        f"In {counted(left, 'row')}, which is every one.",
        f"Left out, for there is nothing: {counted(tally.untrainable, 'row')} ({reasons})."
        if left
        else f"No row does ({reasons}).",
        "error" if not left or config.data.bad_rows == "stop" else "warning",
    )


def _excluded(tally: RowTally, config: RunConfig) -> Check:
    keys, count = set(config.data.exclude), tally.excluded.total()
    absent = sorted(keys - set(tally.excluded))
    return _check(
        "rows_excluded",
        not absent,
        f"Rows left out by hand: {count:,}.",
        f"No row has {len(absent):,} of the {len(keys):,} keys of data.exclude, such as {', '.join(absent[:3])}. "
        f"Rows left out by hand: {count:,}.",
    )


def _control(tally: RowTally) -> Check:
    return _check(
        "no_control_tokens_in_text",
        tally.control_rows == 0,
        "No prompt holds one.",
        f"In {counted(tally.control_rows, 'row')} a prompt holds control tokens: the model takes them for real ones.",
    )


def _rows_in_a_batch(lengths: LengthStatistics) -> Check:
    """How rows share a batch, and what of it is padding. Nothing to mend: either is right."""
    share = lengths.packed_padding_share if lengths.packing else lengths.padding_share
    why = lengths.padded_because
    words = (
        f"{'Packs' if lengths.packing else 'Rows'} are padded to the longest of a batch, {share:.0%} of it: {why}."
        if why
        else f"Rows lie end to end, without padding; padded to the longest of a batch, {share:.0%} of it would be."
    )
    return _check("rows_in_a_batch", True, words, words)


def _packing(data: PreparedData, lengths: LengthStatistics) -> Check:
    """Packing saves padding where rows are padded, and costs attention there, which masks the neighbours out."""
    if not lengths.padded_because:
        words = "The rows of a batch lie end to end without it, too: nothing is padded, and packs save nothing more."
        return _check("packing_pays", False, words, words)
    saved = lengths.padding_share - lengths.packed_padding_share
    cost = (
        f"Attention takes packs with a mask, without its fastest kernel, and computes {lengths.attention_growth:.1f} "
        "times as many pairs of tokens."
    )
    return _check(
        "packing_pays",
        saved >= _SAVED_BY_PACKING,
        f"{data.facts.rows_per_epoch:,} rows fill {lengths.packs:,} packs: {lengths.packed_padding_share:.0%} padding "
        f"instead of {lengths.padding_share:.0%}. {cost}",
        f"Hardly any: {lengths.packed_padding_share:.0%} padding instead of {lengths.padding_share:.0%}. {cost}",
    )


def _duplicates(tally: RowTally, config: RunConfig) -> Check:
    exact, near, choice = tally.duplicates, tally.near_duplicates, config.data.duplicates
    left = exact * (choice == "keep") + near * (choice != "drop_near")
    parts = [f"Repeat an earlier row: {exact:,}."] if exact else []
    parts += [f"Differ from one in case, white space or punctuation only: {near:,}."] if near else []
    parts += [f"Dropped, as you chose: {exact + near - left:,}."] if exact + near > left else []
    parts += [f"Kept, on the same side of the split as the first: {left:,}."] if left else []
    words = " ".join(parts) or "All rows are different."
    return _check("no_duplicates", not exact or choice != "keep", words, words)


def _evaluation(tally: RowTally) -> Check:
    own = tally.evaluation
    bad, both = own["rejected"] + own["untrainable"], own["in_training"]
    first = "".join(f" The first: {item['reason']} (line {item['line']})." for item in own["problems"][:1])
    parts = [f"Cannot be used: {bad:,}.{first}"] if bad else []
    parts += [f"Left out, because a training row says the same: {both:,}."] if both else []
    return _check(
        "evaluation_apart",
        not bad and not both,
        f"Used: {counted(own['used'], 'row')} of it, and none is in the training data.",
        f"Rows of it that are used: {own['used']:,}. {' '.join(parts)}",
    )
