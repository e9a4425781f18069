"""`import`: checkpoints and data of others."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from takevla.commands.command import OUT, Arguments, Command, say_dataset

VLM, SIMLINGO, SIMLINGO_DATA = "vlm", "simlingo", "simlingo-data"


def _import_arguments(parser: ArgumentParser) -> None:
    from takevla.driver.vla.settings import VlmSettings

    parser.add_argument("what", choices=[VLM, SIMLINGO, SIMLINGO_DATA], help="kind of the source")
    parser.add_argument("source", type=str, help="hub id, folder or file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--tokenizer", type=str, default="OpenGVLab/InternVL2-1B", help="hub id or folder (simlingo only)"
    )
    parser.add_argument("--buckets", type=Path, default=None, help="buckets_paths.pkl (simlingo-data only)")
    parser.add_class_arguments(VlmSettings, "vlm")


def _import(arguments: Arguments) -> None:
    if arguments.what == VLM:
        from takevla.driver.vla.checkpoint import save_checkpoint
        from takevla.driver.vla.hub import import_vlm

        checkpoint = import_vlm(arguments.source, arguments.vlm)
        save_checkpoint(arguments.out, checkpoint)
        OUT.print(f"model: {arguments.out} (its driving parts are untrained: `takevla pretrain` next)")
        return
    from takevla.driver.vla.simlingo import LICENCE

    OUT.print(LICENCE)
    if arguments.what == SIMLINGO:
        from takevla.driver.vla.hub import import_simlingo

        import_simlingo(Path(arguments.source), arguments.tokenizer, arguments.out)
        OUT.print(f"model: {arguments.out}")
        return
    from takevla.dataset.simlingo import import_simlingo_data, left_out_words

    left_out = import_simlingo_data(Path(arguments.source), arguments.out, arguments.buckets)
    if left_out:
        OUT.print(f"left out: {left_out.total()} runs ({left_out_words(left_out)})")
    say_dataset(arguments.out)


IMPORTS: dict[str, Command] = {
    "import": Command(
        "make a model of a Hugging Face VLM or of SimLingo, or a dataset of SimLingo's",
        _import_arguments,
        _import,
    )
}
