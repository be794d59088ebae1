# Run by the shell of the firmware: the first start leaves a file and resets, the second turns off.
@echo -off
if exist fs0:\seen then
  echo second start
  map
  memmap
  reset -s
else
  echo first start
  echo seen > fs0:\seen
  reset
endif
