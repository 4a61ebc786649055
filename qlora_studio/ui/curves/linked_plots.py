"""Several plots over one x: zoomed together, read at one place together, saved in one picture."""

from collections.abc import Sequence

from PySide6.QtCore import QBuffer, QIODevice, QPointF, QRect, QRectF, QSize, Signal
from PySide6.QtGui import QFont, QFontMetricsF, QImage, QPainter, QResizeEvent
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QGridLayout, QWidget

from qlora_studio.ui.curves.curve import Plot
from qlora_studio.ui.curves.extent import Range, x_extent
from qlora_studio.ui.curves.plot import CurvePlot
from qlora_studio.ui.curves.surface import HEIGHT
from qlora_studio.ui.kit.theme import active_theme, sans_font

_WIDE = 640  # pixels from which on plots stand in two columns
_LOW = 190  # the height of one of several
_MARGIN, _HEAD = 16.0, 30.0
_SHARPNESS = 2  # pixels of a picture for one of the window


def png_bytes(picture: QImage) -> bytes:
    """Return a picture as a PNG file. Takes a tenth of a second or two; any thread may do it."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    picture.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(buffer.data().data())


class LinkedPlots(QWidget):
    """Shows plots below each other, in two columns where there is room; the first takes a row where they are odd.

    Signals:
        view_chosen: the user zoomed, or follows again.
    """

    view_chosen = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._plots: list[CurvePlot] = []
        self._shape = (0, 0)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(12)
        self.show_plots((Plot("", ()),))

    def show_plots(self, plots: Sequence[Plot]) -> None:
        """Show other plots, or the same ones with other points; what is zoomed to stays."""
        whole = x_extent(plots)
        while len(self._plots) < len(plots):
            self._add_plot()
        for widget, plot in zip(self._plots, plots, strict=False):
            widget.show_plot(plot, whole)
            widget.setAccessibleName(f"{self._name}: {plot.title}" if plot.title else self._name)
        self._arrange(len(plots))

    def plots(self) -> tuple[CurvePlot, ...]:
        """Return the plots that are shown."""
        return tuple(self._plots[: self._shape[0]])

    def is_following(self) -> bool:
        """Whether all is shown, whatever comes."""
        return all(plot.is_following() for plot in self.plots())

    def follow(self) -> None:
        """Show all from now on."""
        for plot in self._plots:
            plot.show_x(None)
        self.view_chosen.emit()

    def hold(self) -> None:
        """Show what is shown now, whatever comes."""
        for plot in self._plots:
            plot.show_x(plot.frame().x)
        self.view_chosen.emit()

    def shown_x(self) -> Range | None:
        """Return the range of x that was zoomed to, None where all is shown."""
        return self._plots[0].shown_x()

    def picture(self, title: str) -> QImage:
        """Return the plots as they are seen, as a picture with a title."""
        image = QImage(self._picture_size() * _SHARPNESS, QImage.Format.Format_RGB32)
        image.setDevicePixelRatio(_SHARPNESS)
        self._paint_all(QPainter(image), title)
        return image

    def drawing(self, title: str) -> bytes:
        """Return the plots as they are seen, as an SVG file with a title: lines and text, sharp at any size."""
        buffer = QBuffer()
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        generator = QSvgGenerator(QSvgGenerator.SvgVersion.Svg11)  # the older one knows no clipping
        generator.setResolution(self.logicalDpiX())
        generator.setOutputDevice(buffer)
        generator.setSize(self._picture_size())
        generator.setViewBox(QRect(QRect().topLeft(), self._picture_size()))
        generator.setTitle(title)
        self._paint_all(QPainter(generator), title)
        return bytes(buffer.data().data())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Turn two columns into one, or back."""
        super().resizeEvent(event)
        self._arrange(self._shape[0])

    def _add_plot(self) -> None:
        plot = CurvePlot(self._name)
        plot.setParent(self)  # before it is shown: it would be a window for a moment
        plot.view_chosen.connect(lambda _shown: self._on_view_chosen(plot))
        plot.pointed.connect(lambda x: self._on_pointed(plot, x))
        plot.hidden_chosen.connect(self._on_hidden_chosen)
        if self._plots:
            plot.show_x(self._plots[0].shown_x())
            plot.hide_curves(self._plots[0].plot().hidden)
        self._plots.append(plot)

    def _on_view_chosen(self, chosen: CurvePlot) -> None:
        for plot in self._plots:
            if plot is not chosen and (chosen.is_following() or plot.shown_x() != chosen.shown_x()):
                plot.show_x(chosen.shown_x())
        self.view_chosen.emit()

    def _on_hidden_chosen(self, names: frozenset[str]) -> None:
        for plot in self._plots:
            plot.hide_curves(names)

    def _on_pointed(self, under: CurvePlot, x: float | None) -> None:
        for plot in self._plots:
            plot.show_crosshair(x, brief=plot is not under)

    def _arrange(self, number: int) -> None:
        columns = 2 if number > 1 and self.width() >= _WIDE else 1
        if (number, columns) == self._shape:
            return
        self._shape = (number, columns)
        first = 1 if number % columns else 0
        for index, plot in enumerate(self._plots):
            self._grid.removeWidget(plot)
            plot.setVisible(index < number)
            plot.setMinimumHeight(HEIGHT if number == 1 else _LOW)
            if index >= number:
                continue
            if index < first:
                self._grid.addWidget(plot, 0, 0, 1, columns)
            else:
                self._grid.addWidget(plot, first + (index - first) // columns, (index - first) % columns)
        for column in range(2):
            self._grid.setColumnStretch(column, 1 if column < columns else 0)

    def _picture_size(self) -> QSize:
        head = _HEAD + 2 * _MARGIN
        return QSize(round(self.width() + 2 * _MARGIN), round(self.height() + head))

    def _paint_all(self, painter: QPainter, title: str) -> None:
        theme, size = active_theme(), self._picture_size()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(QRectF(QPointF(), size.toSizeF()), theme.color("panel"))
        painter.setFont(sans_font(15, QFont.Weight.DemiBold))
        painter.setPen(theme.color("text"))
        painter.drawText(QPointF(_MARGIN, _MARGIN + QFontMetricsF(painter.font()).ascent()), title)
        for plot in self.plots():
            place = QRectF(plot.geometry()).translated(_MARGIN, _MARGIN + _HEAD)
            plot.paint_in(painter, place, theme)
        painter.end()
