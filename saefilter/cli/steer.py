"""`saefilter features steer`: does pushing the model along a feature do what its label says?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import completion, panels
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ask_and_say,
    output_console,
    print_json,
    refuse_overwrite_alone,
)
from saefilter.cli.contrast import contrast_of
from saefilter.cli.features import features
from saefilter.cli.progress import progress_bar
from saefilter.errors import SaefilterError
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.curate.steer import Probe
    from saefilter.encode.encoder import Encoder
    from saefilter.rows.formats import Conversation
    from saefilter.toxic.toxicset import ToxicFeature


@features.command(epilog="Example: saefilter features steer set.json --preset gemma-2-2b --top 20")
@opt.with_options(ScoreSettings, "reading", only=(*opt.READING, "device", "dtype"))
def steer(
    *,
    name_or_file: Annotated[
        str,
        typer.Argument(
            help="A JSON file or the name of a shipped set.", autocompletion=completion.toxic_sets
        ),
    ],
    reading: opt.Given,
    index: Annotated[
        list[int] | None, typer.Option("--feature", help="Which features [the strongest].")
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="How many of the strongest [20].")
    ] = None,
    toxic: Annotated[
        list[str] | None, typer.Option("--toxic", help="Toxic continuations [bundled pairs].")
    ] = None,
    benign: Annotated[
        list[str] | None, typer.Option("--benign", help="Benign continuations.")
    ] = None,
    rows: Annotated[
        int,
        typer.Option(
            "--rows",
            min=4,
            help="Continuations used of each side.",
            rich_help_panel=panels.CONTRAST,
        ),
    ] = 48,
    strength: Annotated[
        float, typer.Option("--strength", help="Length of the push, of the mean residual norm.")
    ] = 0.3,
    controls: Annotated[
        int, typer.Option("--controls", min=5, help="Random directions of the same length.")
    ] = 40,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Continuations shown with and without the push.")
    ] = 1,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, help="Of the random directions.", rich_help_panel=panels.FEATURES
        ),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The set with what was measured [the file itself]."),
    ] = None,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Push a causal model along a set's features and measure what becomes likelier.

    Features that do no more than random directions are marked; `features remove` takes them out.
    """
    from saefilter.artifacts.publish import publishing, refuse_existing
    from saefilter.curate.sources import ContrastRows
    from saefilter.curate.steer import Probe
    from saefilter.curate.steer import steer as steer_set
    from saefilter.encode.causal import load_causal_model
    from saefilter.encode.checks import hook_layers
    from saefilter.encode.encoder import Encoder
    from saefilter.toxic.load import find_toxic_set, load_toxic_set, refuse_in_place

    if index is not None and top is not None:
        raise SaefilterError("--top has no effect with --feature", remedy="Leave one of them out.")
    refuse_overwrite_alone(output, overwrite=overwrite)
    path = output or find_toxic_set(name_or_file)
    if output is None:
        refuse_in_place(name_or_file)
    if output is not None:
        refuse_existing([output], overwrite=overwrite)
    toxic_set = load_toxic_set(name_or_file)
    chosen = [feature for feature in toxic_set.features if index is None or feature.index in index]
    if index is None:
        chosen = sorted(toxic_set.side("toxic"), key=lambda feature: -feature.weight)
        chosen = chosen[: top or 20]
    elif len(chosen) < len(set(index)):
        raise SaefilterError("not all of these features are in the set")
    (contrast,) = contrast_of(toxic or [], benign or [])[:1]
    silent = quiet or as_json
    asked = ask_and_say(reading, quiet=silent)
    encoder = Encoder.of(asked.settings)
    resolved = encoder.preset
    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=resolved.model, sae_name=resolved.sae,
        unit_decoder=encoder.sae.has_unit_decoder,
    )  # fmt: skip
    causal = load_causal_model(
        resolved.model_path(),
        hook_layers(encoder.hook),
        revision=resolved.revision,
        dtype=encoder.dtype,
        device=encoder.device,
        device_map=encoder.placement.device_map,
    )
    few = ContrastRows(contrast.toxic[:rows], contrast.benign[:rows], [])
    probe = Probe.of(causal, encoder.renderer(), few, strength=strength)
    directions = encoder.sae.directions()
    with progress_bar("Steering", len(chosen), quiet=silent) as advance:
        measured = steer_set(
            toxic_set,
            probe,
            directions,
            [feature.index for feature in chosen],
            controls=controls,
            seed=seed,
            advance=lambda done: advance(done, 0),
        )
    with publishing([path]) as (temporary,):
        temporary.write_text(measured.to_json(), encoding="utf-8")
    if silent and not as_json:
        return
    from saefilter.report.console_sets import print_steering

    steered = [feature for feature in measured.features if feature.steering is not None]
    steered = [feature for feature in steered if feature.index in {c.index for c in chosen}]
    steered.sort(key=lambda feature: -(feature.steering or 0.0))
    if as_json:
        measured_of = [
            {"feature": one.index, "label": one.label, "effect": one.steering, "p": one.steering_p}
            for one in steered
        ]
        said = {"written": str(path), "features": measured_of}
        print_json(json.dumps(said, ensure_ascii=False, indent=2))
        return
    shown = _samples(encoder, probe, steered[:3], directions, few.benign[:samples])
    print_steering(output_console(), steered, shown)
    output_console().print(f"Written to {path}")


def _samples(
    encoder: Encoder,
    probe: Probe,
    features: list[ToxicFeature],
    directions: object,
    conversations: list[Conversation],
) -> list[tuple[str, str]]:
    """What the model says by itself and when pushed, each with its title."""
    import numpy as np

    vectors = np.asarray(directions)
    samples = []
    for conversation in conversations:
        _, windows = encoder.renderer().render([conversation])
        if not windows:
            continue
        start = int(np.flatnonzero(windows[0].scored)[0])
        prompt = windows[0].ids[:start].tolist()
        if not prompt:
            continue
        for title, push in [
            ("as it is", None),
            *((f"pushed along {feature.index} ({feature.label})", probe.push(vectors[feature.index]))
              for feature in features),
        ]:  # fmt: skip
            ids = probe.model.continuation(prompt, 40, push)
            samples.append((title, encoder.tokenizer.decode(ids, skip_special_tokens=True)))
    return samples
