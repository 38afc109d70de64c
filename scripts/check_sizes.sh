#!/bin/sh
# Fail if one of the files is larger than 512 KiB: build results and data do not belong here.
status=0
for file in "$@"; do
  if [ "$(wc -c <"$file")" -gt 524288 ]; then
    echo "$file is larger than 512 KiB" >&2
    status=1
  fi
done
exit $status
