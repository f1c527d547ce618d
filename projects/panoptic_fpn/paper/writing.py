"""Writes a report: ``report.md``, ``report.json`` and its pictures; of the
miniature ``miniature.md``, ``miniature.json`` and ``miniature-*.png``."""
import json
from pathlib import Path
from typing import Dict, List, Mapping

from ..files import write_bytes
from ..visualization.image_io import write_image
from .collect import Report, Result
from .errors import PaperError
from .pictures import draw_report
from .report import heading, markdown
from .results import Spread


def write_report(report: Report, folder: Path) -> List[Path]:
    """Write all files of a report.

    Args:
        report (Report): What was found.
        folder (Path): Is made where it is missing.

    Returns:
        list[Path]: The Markdown, the JSON, and the pictures.

    Raises:
        PaperError: A file cannot be written.
    """
    pictures = draw_report(report)
    stem, prefix = ('miniature',
                    'miniature-') if report.miniature else ('report', '')
    names = {section: f'{prefix}{section}.png' for section in pictures}
    content = json.dumps(as_json(report), indent=1, allow_nan=False) + '\n'
    paths = [folder / f'{stem}.md', folder / f'{stem}.json']
    try:
        for section, name in names.items():
            paths.append(folder / name)
            write_image(str(folder / name), pictures[section])
        write_bytes(str(paths[0]), markdown(report, names).encode())
        write_bytes(str(paths[1]), content.encode())
    except OSError as error:
        raise PaperError(f'{folder}: cannot be written to ({error}). Set '
                         'another --out.') from None
    return paths


def as_json(report: Report) -> Dict:
    """The same for JSON; numbers are not rounded."""
    return dict(
        miniature=report.miniature,
        unfinished=dict(report.unfinished),
        empty=[str(path) for path in report.empty],
        tables=[
            dict(
                tables=[table.id for table in section.tables],
                title=heading(section),
                rows=[_row_json(result) for result in section.results],
                claims=[
                    dict(
                        claim=v.claim.text,
                        metric=v.claim.metric,
                        data=v.data,
                        verdict=v.verdict,
                        why=v.why) for v in section.verdicts
                ]) for section in report.sections
        ])


def _row_json(result: Result) -> Dict:
    grid = result.grid
    return dict(
        row=result.name,
        label=result.label,
        title=result.title,
        config=result.config,
        paper={
            data: dict(values)
            for data, values in result.paper.items()
        },
        seeds=result.seeds,
        states={
            str(s): state.text
            for s, state in result.states.items()
        },
        ours=_spreads_json(result.found),
        lambda_grid=grid and dict(
            weights=grid.weights,
            done=grid.done,
            total=grid.total,
            ours=_spreads_json(grid.found)))


def _spreads_json(found: Mapping[str, Spread]) -> Dict:
    return {
        name:
        dict(median=s.median, low=s.low, high=s.high, values=list(s.values))
        for name, s in found.items()
    }
