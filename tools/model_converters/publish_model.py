"""Publish a checkpoint: its weights, named by their SHA-256 and recorded, or a folder as the Hub has it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asvit_mm.utils.command_line import make_tool, option, positional


@dataclass(frozen=True)
class PublishSettings:
    """What is published, and where it is recorded."""

    config: str = positional()
    """that trained the checkpoint"""
    checkpoint: str = positional()
    """that tools/train.py wrote (.pth)"""
    out_dir: Path = Path('weights')
    """folder of the published file or, with --format hub, of the folder named after the config"""
    trained: bool = False
    """after a run with EMAHook: the trained weights instead of their average"""
    half: bool = False
    """store in half precision"""
    format: Literal['pth', 'safetensors', 'hub'] = 'pth'
    """of the published file; hub: a folder that timm, transformers, huggingface_hub, mmpretrain and mmdet
    open, with a model card instead of an entry in a metafile"""
    metafile: Path | None = None
    """to record them in (default: the zoo's that has the config, else metafile.yml beside it)"""
    no_metafile: bool = False
    """record nothing"""
    evaluate: str | None = option(default=None, metavar='DATASET')
    """test the published file on the config's test set and record the result under this name"""
    cfg_options: tuple[str, ...] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config: dotted keys, as train_cfg.max_epochs=10 or key=a,b"""


def run(given: PublishSettings) -> None:
    """Publish, evaluate, record."""
    from asvit_mm.engine.options import parse_options
    from asvit_mm.zoo.publishing import metafile_of, publish, read_metafile, record

    arguments = {
        'averaged': not given.trained,
        'half': given.half,
        'options': parse_options(given.cfg_options),
    }
    if given.format == 'hub':
        print(f'written: {write_hub_folder(given, arguments)}')
        return
    metafile = given.metafile or metafile_of(given.config)
    read_metafile(metafile)  # refused before the work rather than after it
    weights = publish(
        given.config, given.checkpoint, given.out_dir, suffix=given.format, **arguments
    )
    print(f'written: {weights}')
    if given.no_metafile:
        return
    metrics = measure(given, given.config, weights)
    options = given.cfg_options
    record(metafile, given.config, weights, metrics, given.evaluate or '', options)
    print(f'recorded: {metafile}; python tools/misc/update_zoo.py counts and writes the tables')


def write_hub_folder(given: PublishSettings, arguments: dict[str, Any]) -> Path:
    """Write the folder, evaluate what is in it, and put the result on its card."""
    from asvit_mm.engine.config import load_config
    from asvit_mm.hub.folder import write_folder
    from asvit_mm.zoo.publishing import as_results, read_trained

    cfg = load_config(given.config, arguments['options'])
    trained = read_trained(given.config, given.checkpoint, **arguments)
    folder = given.out_dir / Path(given.config).stem
    write_folder(folder, cfg, trained.weights, trained.meta)
    metrics = measure(given, str(folder / 'config.py'), folder / 'model.safetensors')
    if metrics is not None:
        command = f'python tools/test.py {folder}/config.py {folder}/model.safetensors'
        results = as_results(metrics, given.evaluate or '', command)
        cfg = load_config(str(folder / 'config.py'))  # with which it was measured
        write_folder(folder, cfg, trained.weights, trained.meta, results)
    return folder


def measure(given: PublishSettings, config: str, weights: Path) -> dict[str, float] | None:
    """Metrics of the published weights; None if none are asked for."""
    from asvit_mm.zoo.publishing import evaluate

    if given.evaluate is None:
        return None
    work_dir = Path('work_dirs') / f'{Path(given.config).stem}_published'
    return evaluate(config, weights, work_dir, given.cfg_options)


parse_args, main = make_tool(PublishSettings, run, __doc__)

if __name__ == '__main__':
    main()
