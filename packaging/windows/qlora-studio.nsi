; The installer for Windows, for one user: it needs no administrator, and the same installer updates in place.
; Built by build.sh, which says VERSION, PACKAGE (the folder of what is installed) and OUTPUT.
Unicode true
SetCompressor /SOLID lzma
Name "QLoRA Studio"
OutFile "${OUTPUT}"
RequestExecutionLevel user
InstallDir "$LOCALAPPDATA\Programs\QLoRA Studio"
ManifestDPIAware true
BrandingText "QLoRA Studio ${VERSION}"
VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "QLoRA Studio"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "Sets up QLoRA Studio"
VIAddVersionKey "CompanyName" "QLoRA Studio developers"
VIAddVersionKey "LegalCopyright" "QLoRA Studio developers, Apache-2.0"

!include "MUI2.nsh"
!include "LogicLib.nsh"
!include "x64.nsh"
!define MUI_ICON "qlora-studio.ico"
!define MUI_UNICON "qlora-studio.ico"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\QLoRAStudio"
!define PYTHONS "Software\Python\PythonCore"

!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_INSTFILES
!define MUI_FINISHPAGE_RUN
!define MUI_FINISHPAGE_RUN_TEXT "Set up the libraries and start QLoRA Studio"
!define MUI_FINISHPAGE_RUN_FUNCTION StartIt
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

Var Python ; the folder of the newest Python of python.org that it runs on

!macro LookForPython version
  ${If} $Python == ""
    ReadRegStr $Python HKCU "${PYTHONS}\${version}\InstallPath" ""
  ${EndIf}
  ${If} $Python == ""
    ReadRegStr $Python HKLM "${PYTHONS}\${version}\InstallPath" ""
  ${EndIf}
  ${IfNot} ${FileExists} "$Python\python.exe"
    StrCpy $Python ""
  ${EndIf}
!macroend

Function .onInit
  ${IfNot} ${RunningX64}
    MessageBox MB_OK|MB_ICONSTOP "QLoRA Studio needs a 64-bit Windows." /SD IDOK
    Abort
  ${EndIf}
  SetRegView 64
  !insertmacro LookForPython "3.13"
  !insertmacro LookForPython "3.12"
  !insertmacro LookForPython "3.11"
  ${If} $Python == ""
    MessageBox MB_OK|MB_ICONSTOP "QLoRA Studio needs Python 3.11, 3.12 or 3.13 (64-bit), which is not installed.$\n$\nInstall it from python.org, or in a terminal with$\n    winget install Python.Python.3.13$\nand start this again." /SD IDOK
    Abort
  ${EndIf}
FunctionEnd

Function un.onInit
  SetRegView 64
  ReadRegStr $Python HKCU "${UNINSTALL}" "Python"
FunctionEnd

Function StartIt
  Exec '"$Python\pythonw.exe" -I "$INSTDIR\start.pyw"'
FunctionEnd

Section
  ; An update: the wheel of before has another name. The libraries are renewed at the next start, beside those in use.
  Delete "$INSTDIR\qlora_studio-*.whl"
  SetOutPath "$INSTDIR"
  File "${PACKAGE}\*.*"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  CreateDirectory "$SMPROGRAMS\QLoRA Studio"
  CreateShortcut "$SMPROGRAMS\QLoRA Studio\QLoRA Studio.lnk" "$Python\pythonw.exe" '-I "$INSTDIR\start.pyw"' "$INSTDIR\qlora-studio.ico"
  CreateShortcut "$SMPROGRAMS\QLoRA Studio\Repair QLoRA Studio.lnk" "$Python\pythonw.exe" '-I "$INSTDIR\set-up.py" --repair' "$INSTDIR\qlora-studio.ico"

  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "QLoRA Studio"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "QLoRA Studio developers"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\qlora-studio.ico"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegStr HKCU "${UNINSTALL}" "Python" "$Python"
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
SectionEnd

Section "Uninstall"
  ; The libraries first, by who knows where they are; it refuses while the program is at work, and so does this.
  nsExec::ExecToLog '"$Python\python.exe" -I "$INSTDIR\set-up.py" --remove'
  Pop $0
  ${If} $0 != 0
  ${AndIf} ${FileExists} "$Python\python.exe"
    MessageBox MB_OK|MB_ICONEXCLAMATION "The libraries were not removed. Close QLoRA Studio, and uninstall it again." /SD IDOK
    Abort
  ${EndIf}
  ; By name, and never a whole folder: it may hold what is not of this installer.
  Delete "$INSTDIR\qlora_studio-*.whl"
  Delete "$INSTDIR\constraints.txt"
  Delete "$INSTDIR\edition"
  Delete "$INSTDIR\set-up.py"
  Delete "$INSTDIR\start.pyw"
  Delete "$INSTDIR\qlora-studio.ico"
  Delete "$INSTDIR\LICENSE.txt"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\QLoRA Studio\QLoRA Studio.lnk"
  Delete "$SMPROGRAMS\QLoRA Studio\Repair QLoRA Studio.lnk"
  RMDir "$SMPROGRAMS\QLoRA Studio"
  DeleteRegKey HKCU "${UNINSTALL}"
SectionEnd
