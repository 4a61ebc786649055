"""Pictures side by side, so that many are looked at at once."""

from pathlib import Path

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QFont, QImage, QPainter

_GAP, _TITLE = 10, 22
_WIDTH = 1000  # of each picture


def write_sheets(place: Path, taken: dict[str, list[Path]], per_sheet: int) -> None:
    """Write `sheet-light-1280x720-01.png` and so on: pictures of one look in two columns, each below its name."""
    for look, paths in taken.items():
        for number in range(0, len(paths), per_sheet):
            _sheet(paths[number : number + per_sheet]).save(
                str(place / f"sheet-{look}-{number // per_sheet + 1:02}.png")
            )


def _sheet(paths: list[Path]) -> QImage:
    pictures = [_scaled(QImage(str(path))) for path in paths]
    width, height = pictures[0].width() + _GAP, pictures[0].height() + _GAP + _TITLE
    columns = min(2, len(pictures))
    sheet = QImage(columns * width, -(-len(pictures) // columns) * height, QImage.Format.Format_RGB32)
    sheet.fill(QColor("#808080"))
    painter = QPainter(sheet)
    font = QFont("Inter")
    font.setPixelSize(15)
    painter.setFont(font)
    for index, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
        x, y = index % columns * width, index // columns * height
        painter.drawText(QRect(x + 4, y, width, _TITLE), Qt.AlignmentFlag.AlignVCenter, path.stem)
        painter.drawImage(x, y + _TITLE, picture)
    painter.end()
    return sheet


def _scaled(picture: QImage) -> QImage:
    picture.setDevicePixelRatio(1)
    if picture.width() <= _WIDTH:
        return picture
    return picture.scaledToWidth(_WIDTH, Qt.TransformationMode.SmoothTransformation)
