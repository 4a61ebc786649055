from tests.ui.test_end_to_end import *
from tests.ui.window_driver import *
def test_x(person):
    p=person
    a=QApplication
    print("start", p.window.isActiveWindow())
    a.instance().focusWindowChanged.connect(lambda w: print("FOCUS",w))
    p.window.activateWindow(); QTest.qWait(50)
    print("act", p.window.isActiveWindow())
    f=p.find("Folder",QAbstractButton); pl=p._resting_place(f)
    print("rest", p.window.isActiveWindow())
    QTest.mouseMove(p.window.windowHandle(), pl)
    QTest.qWait(50)
    print("move", p.window.isActiveWindow())
    QTest.mouseClick(p.window.windowHandle(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, pl)
    print("click", p.window.isActiveWindow())
    QTest.qWait(50)
    print("click", p.window.isActiveWindow())
