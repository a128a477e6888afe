"""`alluvium pictures`: train the small network that tells a shop's pictures apart."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from infra.cli import options
from infra.errors import OutputExistsError

app = typer.Typer(help="Pictures: train a small network on those of your own catalogue.", no_args_is_help=True)


@app.callback()
def pictures() -> None:
    """A group, so that `train` is a word of its own although there is no second one yet."""


@app.command("train")
def train(
    folder: Annotated[Path, typer.Argument(help="Its pictures, a product each; folders below it are read, too.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the network goes.")],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps.")] = 2_400,
    channels: Annotated[int, typer.Option("--channels", min=1, help="Of its first layer.")] = 48,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Faster on CPUs with AMX, slower on others.")] = False,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a network; then set ALLUVIUM_MODEL__IMAGE_ENCODER to DIR."""
    settings = options.read(seed=seed)
    import numpy as np
    import torch
    from PIL import Image

    from learners.items.picture import PictureSource, RejectedPicture
    from learners.items.picture_net.encoder import is_trained_here
    from learners.items.picture_net.training import NetConfig, drawn, scaled_down
    from learners.items.picture_net.training import train as trained

    if is_trained_here(out):
        raise OutputExistsError(path=out)
    config = NetConfig(steps=steps, channels=channels, bfloat16=bfloat16)
    source, rejected, found = PictureSource(folder=folder), Counter[str](), []
    suffixes = Image.registered_extensions()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    for place in drawn(len(paths), config=config, rng=np.random.default_rng(settings.seed)):
        name = str(paths[place].relative_to(folder))
        content = source.read(name)
        picture = content if isinstance(content, RejectedPicture) else source.decode(name, content)
        if isinstance(picture, RejectedPicture):
            rejected[picture.reason] += 1
        else:
            found.append(scaled_down(picture))
    console, losses = Console(stderr=True), list[float]()
    torch.set_num_threads(settings.learning.threads)
    with Progress(console=console, disable=quiet) as bar:
        task = bar.add_task(f"{len(found):,} pictures", total=steps)

        def told(_step: int, loss: float) -> None:
            losses.append(loss)
            bar.advance(task)

        net = trained(found, config=config, seed=settings.seed, told=told)
    last = losses[-100:]
    facts = {
        "pictures": len(found),
        "steps": steps,
        "seed": settings.seed,
        "last_loss": round(sum(last) / len(last), 4),
    }
    net.save(out, facts=facts)
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items())) or "none"
    used = f"{len(found):,} of {len(paths):,} pictures"
    typer.echo(f"{used}, rejected: {skipped}; loss {facts['last_loss']:.3f}; network in {out}")
