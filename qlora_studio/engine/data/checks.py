"""The checks of a dataset before a run: each one sentence, green or not."""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.base_templates import AUTO, base_template_of
from qlora_studio.core.data.report import Check, LengthStatistics, Level, kept_by
from qlora_studio.core.data.template_variables import variables_text
from qlora_studio.core.quantity import counted
from qlora_studio.core.words import say, say_count
from qlora_studio.engine.data.prepared import PreparedData
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.data.tokenized_rows import IGNORED
from qlora_studio.engine.templates.base_template import template_name
from qlora_studio.engine.templates.completeness import EARLIER
from qlora_studio.engine.templates.rendering import HOW_WORDS

TITLES = {  # what a check is called where it passed, and where it failed: neither may be read as the other
    "rows_read": (say("Every row was read"), say("Some rows were not read")),
    "template_present": (say("There is a chat template"), say("The model has no chat template of its own")),
    "same_prompt": (
        say("The template renders the same while chatting as while training"),
        say("The template renders otherwise while chatting than while training"),
    ),
    "template_variables_read": (
        say("The template reads the variables that are set"),
        say("The template does not read all variables that are set"),
    ),
    "template_takes_rows": (
        say("The template takes the rows as they are"),
        say("The template does not take all rows as they are"),
    ),
    "template_shows_everything": (
        say("The template shows everything that the rows say"),
        say("The template leaves out some of what the rows say"),
    ),
    "trained_share": (say("Enough of the text is trained"), say("Very little of the text is trained")),
    "end_of_turn_trained": (
        say("Every answer ends with a trained end-of-turn token"),
        say("Some answers end without a trained end-of-turn token"),
    ),
    "single_bos": (say("One begin-of-text token at most"), say("Some rows begin with two begin-of-text tokens")),
    "padding_not_trained": (
        say("Padding is not trained, and hides no trained token"),
        say("Padding would change what is trained"),
    ),
    "nothing_cut": (say("No answer is cut off"), say("Answers are cut off")),
    "rows_trainable": (say("Every row has something to train"), say("Some rows have nothing to train")),
    "rows_excluded": (
        say("What you leave out by hand is found"),
        say("Some rows that you leave out by hand are not found"),
    ),
    "no_control_tokens_in_text": (say("Nobody typed control tokens"), say("Some prompts hold control tokens")),
    "rows_in_a_batch": (say("Rows share a batch"), say("Rows share a batch")),
    "packing_pays": (say("Packing saves padding"), say("Packing saves hardly any padding")),
    "no_duplicates": (say("No row comes twice"), say("Some rows come twice")),
    "evaluation_apart": (
        say("The evaluation file is read, and apart from the training rows"),
        say("Not every row of the evaluation file can be used"),
    ),
    "answers_found": (say("The answers are found exactly"), say("Some answers cannot be told from the rest")),
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
        say("Read: {rows}.", rows=say_count(total, "{count:,} row", "{count:,} rows")),
        say("{rejected:,} of {total:,} rows were rejected.", rejected=rejected, total=total)
        if stops
        else say("{rejected:,} of {total:,} rows were rejected and are left out.", rejected=rejected, total=total),
        "error" if stops else "warning",
    )


def _template(tokenizer: PreTrainedTokenizerBase, wish: str) -> Check:
    found = base_template_of(str(tokenizer.chat_template))
    chosen = wish != AUTO
    why = say("As you chose:") if chosen else say("The model has no chat template:")
    cost = f" {found.cost}" if found else ""
    return _check(
        "template_present",
        template_name(tokenizer) == "model" or chosen,
        say(
            "{why} {template_name}, saved with the adapter.{cost}",
            why=why,
            template_name=template_name(tokenizer),
            cost=cost,
        )
        if chosen
        else say("The model's own chat template is used."),
        say(
            "{why} a {template_name} one is used, and saved with the adapter.{cost} Others can be "
            "chosen (data.chat_template).",
            why=why,
            template_name=template_name(tokenizer),
            cost=cost,
        ),
    )


def _mask(tally: RowTally, config: RunConfig) -> Check:
    apart = (
        " " + say("Answers that are not learned, as marked or chosen: {unlearned:,}.", unlearned=tally.unlearned)
        if tally.unlearned
        else ""
    )
    if config.training.loss_on == "all":
        return _check(
            "answers_found", True, say("Not needed: the full text is trained, as you chose.{apart}", apart=apart), ""
        )
    ways = [HOW_WORDS[how] for how, _ in tally.how.most_common() if how != "text"]
    chats = sum(tally.how.values()) - tally.how["text"]
    return _check(
        "answers_found",
        tally.hidden == 0,
        say(
            "In {conversations}, which is every one: {ways}.{apart}",
            conversations=say_count(chats, "{count:,} conversation", "{count:,} conversations"),
            ways=", or ".join(ways),
            apart=apart,
        ),
        say(
            "The template does not show where the answers begin and end in {hidden:,} conversations. "
            "They can be trained only with their full text.",
            hidden=tally.hidden,
        ),
        "error" if not chats or config.data.bad_rows == "stop" else "warning",
    )


def _prompt(tally: RowTally) -> Check:
    return _check(
        "same_prompt",
        tally.unprompted == 0,
        say("Up to the last answer, each row is what the model is given when it is asked."),
        say(
            "In {rows} the text before the last answer differs from what the model is given when it is asked for it.",
            rows=say_count(tally.unprompted, "{count:,} row", "{count:,} rows"),
        ),
    )


def _variables(tally: RowTally, config: RunConfig) -> Check:
    """Variables are for the template: one that it does not read is a slip of the pen, or for another model."""
    run, rows = config.data.template_variables, tally.variables
    parts = [say("The run sets {run}.", run=variables_text(run))] if run else []
    parts += (
        [
            say(
                "Rows set {most_common}.",
                most_common=", ".join((f"{name} ({count:,})" for name, count in rows.most_common())),
            )
        ]
        if rows
        else []
    )
    words = " ".join(parts)
    return _check(
        "template_variables_read",
        not tally.unread_variables,
        words,
        say(
            "{words} The template does not read {unread_variables}: that changes nothing.",
            words=words,
            unread_variables=", ".join(tally.unread_variables),
        ),
    )


def _changed(tally: RowTally) -> Check:
    parts = "; ".join(
        say("in {rows} {what}", rows=say_count(count, "{count:,} row", "{count:,} rows"), what=what)
        for what, count in tally.changed.most_common()
    )
    return _check("template_takes_rows", False, "", say("Not all of them: {parts}.", parts=parts))


def _lost(tally: RowTally, config: RunConfig) -> Check:
    parts = ", ".join(f"{what} ({counted(count, 'row')})" for what, count in tally.lost.most_common())
    tokens = (
        " "
        + say("The reasoning that it leaves out has {dropped_tokens:,} tokens.", dropped_tokens=tally.dropped_tokens)
        if tally.dropped_tokens
        else ""
    )
    keep = (
        " " + say('data.reasoning = "keep" learns what of it the template can show, in longer rows.')
        if _can_keep(tally, config)
        else ""
    )
    return _check(
        "template_shows_everything",
        False,
        "",
        say("It leaves out: {parts}. Nothing of that is learned.{tokens}{keep}", parts=parts, tokens=tokens, keep=keep),
    )


def _can_keep(tally: RowTally, config: RunConfig) -> bool:
    return EARLIER in tally.lost and config.data.reasoning == "template" and config.training.loss_on != "all"


def _trained_share(tally: RowTally) -> Check:
    tokens, trained = int(tally.column("tokens").sum()), int(tally.column("trained").sum())
    share = trained / tokens if tokens else 0.0
    words = say(
        "{share:.1%} of the tokens are trained ({trained:,} of {tokens:,})", share=share, trained=trained, tokens=tokens
    )
    return _check(
        "trained_share",
        share >= _FEW_TRAINED,
        f"{words}.",
        say("{words}: very few.", words=words) if trained else say("No token is trained."),
        "warning" if trained else "error",
    )


def _end_of_turn(tally: RowTally, config: RunConfig) -> Check:
    """An end that is there and then cut off is not learned either."""
    rows, named = len(tally.columns["number"]), " or ".join(tally.added_ends)
    added = " " + say("The template leaves the last turn open: {named} is put there.", named=named) if named else ""
    cut = int((tally.column("kept") < tally.column("trained")).sum())
    bad = (
        [say("In {open_ends:,} of {rows:,} rows an answer ends without one.", open_ends=tally.open_ends, rows=rows)]
        if tally.open_ends
        else []
    )
    bad += (
        [
            say(
                "In {cut:,} of {rows:,} rows it is cut off at {max_length:,} tokens.",
                cut=cut,
                rows=rows,
                max_length=config.training.max_length,
            )
        ]
        if cut
        else []
    )
    bad += [say("The model may not learn to stop.")] if bad else []
    bad += (
        [
            say(
                "In {rows} an end token is trained twice.",
                rows=say_count(tally.doubled_ends, "{count:,} row", "{count:,} rows"),
            )
        ]
        if tally.doubled_ends
        else []
    )
    return _check(
        "end_of_turn_trained",
        not bad,
        say(
            "In {rows}, which is every one.{added}",
            rows=say_count(rows, "{count:,} row", "{count:,} rows"),
            added=added,
        ),
        " ".join(bad),
    )


def _bos(tally: RowTally) -> Check:
    return _check(
        "single_bos",
        tally.double_bos == 0,
        say("No row begins with two of them."),
        say("In {rows} there are two of them.", rows=say_count(tally.double_bos, "{count:,} row", "{count:,} rows")),
    )


def _padding(data: PreparedData, tokenizer: PreTrainedTokenizerBase) -> Check:
    """Put a short and a long row into a batch, as the trainer does, and look at the labels."""
    shared = tokenizer.pad_token_id == tokenizer.eos_token_id
    return _check(
        "padding_not_trained",
        _padding_is_harmless(data, tokenizer),
        say("Padding has a token of its own.")
        if not shared
        else say("Padding uses the end-of-text token, and is told from a real one by its place."),
        say("Padding would change what is trained."),
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
        say("Every answer fits into {limit:,} tokens.", limit=limit),
        say_count(
            rows,
            "{count:,} answer loses its end at {limit:,} tokens: {lost:,} answer tokens, {share:.1%}. {kept_by}",
            "{count:,} answers lose their end at {limit:,} tokens: {lost:,} answer tokens, {share:.1%}. {kept_by}",
            limit=limit,
            lost=lost,
            share=lost / max(1, total),
            kept_by=kept_by(lengths.keeps) if lengths else "",
        ),
    )


def _untrainable(tally: RowTally, config: RunConfig) -> Check:
    left = int((tally.column("kept") > 0).sum())
    reasons = "; ".join(f"{count:,}: {reason}" for reason, count in tally.errors.most_common(3))
    return _check(
        "rows_trainable",
        tally.untrainable == 0 and left > 0,
        say("In {rows}, which is every one.", rows=say_count(left, "{count:,} row", "{count:,} rows")),
        say(
            "Left out, for there is nothing: {rows} ({reasons}).",
            rows=say_count(tally.untrainable, "{count:,} row", "{count:,} rows"),
            reasons=reasons,
        )
        if left
        else say("No row does ({reasons}).", reasons=reasons),
        "error" if not left or config.data.bad_rows == "stop" else "warning",
    )


def _excluded(tally: RowTally, config: RunConfig) -> Check:
    keys, count = set(config.data.exclude), tally.excluded.total()
    absent = sorted(keys - set(tally.excluded))
    return _check(
        "rows_excluded",
        not absent,
        say("Rows left out by hand: {count:,}.", count=count),
        say(
            "No row has {absent:,} of the {keys:,} keys of data.exclude, such as {named}. Rows "
            "left out by hand: {count:,}.",
            absent=len(absent),
            keys=len(keys),
            named=", ".join(absent[:3]),
            count=count,
        ),
    )


def _control(tally: RowTally) -> Check:
    return _check(
        "no_control_tokens_in_text",
        tally.control_rows == 0,
        say("No prompt holds one."),
        say(
            "In {rows} a prompt holds control tokens: the model takes them for real ones.",
            rows=say_count(tally.control_rows, "{count:,} row", "{count:,} rows"),
        ),
    )


def _rows_in_a_batch(lengths: LengthStatistics) -> Check:
    """How rows share a batch, and what of it is padding. Nothing to mend: either is right."""
    share = lengths.packed_padding_share if lengths.packing else lengths.padding_share
    why = lengths.padded_because
    words = (
        say(
            "{packing} are padded to the longest of a batch, {share:.0%} of it: {why}.",
            packing=say("Packs") if lengths.packing else say("Rows"),
            share=share,
            why=why,
        )
        if why
        else say(
            "Rows lie end to end, without padding; padded to the longest of a batch, {share:.0%} of it would be.",
            share=share,
        )
    )
    return _check("rows_in_a_batch", True, words, words)


def _packing(data: PreparedData, lengths: LengthStatistics) -> Check:
    """Packing saves padding where rows are padded, and costs attention there, which masks the neighbours out."""
    if not lengths.padded_because:
        words = say(
            "The rows of a batch lie end to end without it, too: nothing is padded, and packs save nothing more."
        )
        return _check("packing_pays", False, words, words)
    saved = lengths.padding_share - lengths.packed_padding_share
    cost = say(
        "Attention takes packs with a mask, without its fastest kernel, and computes "
        "{attention_growth:.1f} times as many pairs of tokens.",
        attention_growth=lengths.attention_growth,
    )
    return _check(
        "packing_pays",
        saved >= _SAVED_BY_PACKING,
        say(
            "{rows_per_epoch:,} rows fill {packs:,} packs: {packed_padding_share:.0%} padding "
            "instead of {padding_share:.0%}. {cost}",
            rows_per_epoch=data.facts.rows_per_epoch,
            packs=lengths.packs,
            packed_padding_share=lengths.packed_padding_share,
            padding_share=lengths.padding_share,
            cost=cost,
        ),
        say(
            "Hardly any: {packed_padding_share:.0%} padding instead of {padding_share:.0%}. {cost}",
            packed_padding_share=lengths.packed_padding_share,
            padding_share=lengths.padding_share,
            cost=cost,
        ),
    )


def _duplicates(tally: RowTally, config: RunConfig) -> Check:
    exact, near, choice = tally.duplicates, tally.near_duplicates, config.data.duplicates
    left = exact * (choice == "keep") + near * (choice != "drop_near")
    parts = [say("Repeat an earlier row: {exact:,}.", exact=exact)] if exact else []
    parts += [say("Differ from one in case, white space or punctuation only: {near:,}.", near=near)] if near else []
    parts += [say("Dropped, as you chose: {exact:,}.", exact=exact + near - left)] if exact + near > left else []
    parts += [say("Kept, on the same side of the split as the first: {left:,}.", left=left)] if left else []
    words = " ".join(parts) or say("All rows are different.")
    return _check("no_duplicates", not exact or choice != "keep", words, words)


def _evaluation(tally: RowTally) -> Check:
    own = tally.evaluation
    bad, both = own["rejected"] + own["untrainable"], own["in_training"]
    first = "".join(
        " " + say("The first: {reason} (line {line}).", reason=item["reason"], line=item["line"])
        for item in own["problems"][:1]
    )
    parts = [say("Cannot be used: {bad:,}.{first}", bad=bad, first=first)] if bad else []
    parts += [say("Left out, because a training row says the same: {both:,}.", both=both)] if both else []
    return _check(
        "evaluation_apart",
        not bad and not both,
        say(
            "Used: {rows} of it, and none is in the training data.",
            rows=say_count(own["used"], "{count:,} row", "{count:,} rows"),
        ),
        say("Rows of it that are used: {used:,}. {parts}", used=own["used"], parts=" ".join(parts)),
    )
