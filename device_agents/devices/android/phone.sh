#!/system/bin/sh
# The phone's side of a measurement. Pushed beside the bundle; everything it keeps is under $R.
#   facts | state | inventory | append SHA256 | verify SHA256... | evict SHA256... | bundle DIGEST | apply | restore | run KEY BUNDLE ... | drop KEY...
# Readings are printed raw, section by section; the host parses them, where tests hold recorded ones.
R=${HILNAS_PHONE_ROOT:-/data/local/tmp/hilnas}
S=$HILNAS_SYSROOT

section() { echo "=== $1"; }

facts() {
  section props; getprop
  section kernel; cat "$S/proc/version" 2>/dev/null || uname -a
  section memory; cat "$S/proc/meminfo"
  section cpuinfo; cat "$S/proc/cpuinfo"
  section page_size; getconf PAGE_SIZE
  section cpuset; cat /proc/self/cpuset 2>/dev/null
  section allowed; grep Cpus_allowed_list /proc/self/status
  section tools; for tool in sha256sum gunzip setsid stat df find taskset; do command -v $tool >/dev/null || echo "missing $tool"; done
  state
}

state() {
  section clock; date +%s; echo "$(cat "$S/proc/sys/kernel/random/boot_id")"; cut -d' ' -f1 "$S/proc/uptime"
  section battery; battery
  section thermal; dumpsys thermalservice 2>&1
  section zones; for zone in "$S"/sys/class/thermal/thermal_zone*; do echo "$(cat "$zone/type" 2>/dev/null) $(cat "$zone/temp" 2>/dev/null)"; done 2>/dev/null
  section power; dumpsys power 2>/dev/null | grep -m1 mWakefulness=
  cpus
  section disk; df -k "$R"
  section load; cat /proc/loadavg
}

battery() { # all of its readings stand still while charging is reported as stopped: let them through for a moment
  read=$(dumpsys battery)
  case $read in *"UPDATES STOPPED"*)
    dumpsys battery reset; read=$(dumpsys battery); dumpsys battery unplug
    echo "  charging stopped: true" ;;
  esac
  echo "$read"
}

cpus() {
  section cpus
  for cpu in "$S"/sys/devices/system/cpu/cpu[0-9]*; do
    echo "${cpu##*/cpu} $(cat "$cpu/cpufreq/cpuinfo_max_freq" 2>/dev/null)"
  done
  section policies
  for policy in "$S"/sys/devices/system/cpu/cpufreq/policy*; do
    [ -d "$policy" ] || continue
    echo "policy ${policy##*/policy}"
    for name in related_cpus cpuinfo_max_freq scaling_max_freq scaling_cur_freq scaling_governor; do
      echo "$name $(cat "$policy/$name" 2>/dev/null)"
    done
    while read -r khz ticks; do echo "in_state $khz $ticks"; done 2>/dev/null <"$policy/stats/time_in_state"
  done
}

inventory() {
  mkdir -p "$R/blocks" "$R/runs"
  section blocks; cd "$R/blocks" && sha256sum ./*.pte 2>/dev/null
  section partial; stat -c '%s %n' ./*.partial 2>/dev/null
  section bundles; ls -d "$R"/bundle-* 2>/dev/null
  section leftovers; [ -f "$R/restore.sh" ] && echo restore
  return 0
}

append() { # the next part of a file that is too large to send again after a cut
  cat "$R/blocks/$1.part" >>"$R/blocks/$1.partial" && rm -f "$R/blocks/$1.part"
  stat -c %s "$R/blocks/$1.partial"
}

verify() { # a file takes its name once its content is what the name says
  cd "$R/blocks" || exit 1
  for digest in "$@"; do
    if [ "$(sha256sum <"$digest.partial" | cut -d' ' -f1)" = "$digest" ]; then mv "$digest.partial" "$digest.pte"; else
      echo "bad $digest"; rm -f "$digest.partial"; fi
  done
}

evict() { # SHA256...: every block but these goes
  cd "$R/blocks" || exit 1
  for file in *.pte *.partial *.part; do
    case " $* " in *" ${file%%.*} "*) ;; *) rm -f "$file" ;; esac
  done
}

bundle() { # DIGEST: the same for the pushed bundle; older ones go
  cd "$R/bundle-$1.new" && sha256sum -c SHA256SUMS >/dev/null || { echo bad; return 0; }
  chmod 755 hilnas-runner ./ld-* 2>/dev/null
  cd "$R" && mv "bundle-$1.new" "bundle-$1.ready"
  rm -rf bundle-????????????????
  mv "bundle-$1.ready" "bundle-$1" && echo ready
}

# --- settings: what was there is written down before anything is changed, so that any later start can put it back ------

keep() { # namespace key
  old=$(settings get "$1" "$2")
  if [ "$old" = null ]; then echo "settings delete $1 $2"; else echo "settings put $1 $2 $old"; fi
}

apply() {
  mkdir -p "$R"
  touch "$R/alive"
  if [ ! -f "$R/restore.sh" ]; then
    { keep system screen_off_timeout; keep system screen_brightness_mode; keep system screen_brightness
      echo "cmd power set-fixed-performance-mode-enabled false"; echo "dumpsys battery reset"; } >"$R/restore.new"
    mv "$R/restore.new" "$R/restore.sh"
    setsid sh "$0" guard </dev/null >/dev/null 2>&1 3>&- &
  fi
  cpus
  settings put system screen_off_timeout 86400000
  settings put system screen_brightness_mode 0
  settings put system screen_brightness 1
  input keyevent KEYCODE_WAKEUP
  [ "$1" = charging ] || dumpsys battery unplug
  section fixed; cmd power set-fixed-performance-mode-enabled true 2>&1; echo "exit $?"
  sleep 0.2
  section after; cpus
}

restore() {
  [ -f "$R/restore.sh" ] || return 0
  sh "$R/restore.sh" && rm -f "$R/restore.sh"
}

guard() { # puts everything back when no host has been heard of for a quarter of an hour
  while [ -f "$R/restore.sh" ]; do
    sleep 60
    [ -n "$(find "$R/alive" -mmin +15 2>/dev/null)" ] && restore
  done
}

# --- one cold run: survives the connection ------------------------------------------------------------------------

run() { # KEY BUNDLE MAX_TENTHS_C MAX_STATUS [DONE_WITH]
  d=$R/runs/$1
  [ -n "$5" ] && rm -rf "$R/runs/$5"
  [ -f "$d/done" ] && { echo finished; return 0; }
  touch "$R/alive"
  if [ ! -f "$d/pid" ]; then
    temperature=$(battery | sed -n 's/^ *temperature: *//p')
    status=$(dumpsys thermalservice 2>/dev/null | sed -n 's/^Thermal Status: *//p')
    if [ "${temperature:-0}" -gt "$3" ] || [ "${status:-0}" -gt "$4" ]; then echo "hot ${temperature:-0} ${status:-0}"; return 0; fi
    setsid sh "$0" work "$1" "$2" </dev/null >"$d/log" 2>&1 3>&- &
    pid=$!
    echo "$pid" >"$d/pid"
    ( while sleep 2 >/dev/null; do echo .; done ) 2>/dev/null & # its sleep must not hold the stream open
    beat=$!
    wait $pid
    kill $beat 2>/dev/null
  fi
  while [ ! -f "$d/done" ]; do # somebody else's child: a run that was started before the connection was cut
    kill -0 "$(cat "$d/pid")" 2>/dev/null || { [ -f "$d/done" ] || echo lost; return 0; }
    echo .; sleep 1
  done
  echo finished
}

runner() { # BUNDLE_FOLDER ARGUMENT...: by the loader that was brought along, or (a build with the NDK) by the phone's own
  b=$1
  shift
  # shellcheck disable=SC2086
  if [ -f "$b/ld-linux-aarch64.so.1" ]; then
    $HILNAS_EMULATOR "$b/ld-linux-aarch64.so.1" --library-path "$b" "$b/hilnas-runner" "$@"
  else
    LD_LIBRARY_PATH=$b "$b/hilnas-runner" "$@"
  fi
}

work() { # KEY BUNDLE: every pass of the plan file, one a line, each a process of its own
  d=$R/runs/$1 b=$R/bundle-$2
  cd "$d" || exit 1
  state >before
  gunzip -c plan.gz >plans
  pass=0
  while IFS= read -r plan; do
    pass=$((pass + 1))
    printf '%s\n' "$plan" >"pass-$pass.json"
    read -r began _ </proc/uptime
    runner "$b" "pass-$pass.json" --out "pass-$pass.jsonl" 2>"pass-$pass.err"
    code=$?
    read -r ended _ </proc/uptime
    echo "$code $began $ended" >"pass-$pass.code"
    [ $code -eq 0 ] || break
  done <plans
  state >after
  {
    for name in before after; do section "file $name"; sed 's/^=== /=-= /' $name; done
    for n in 1 2; do
      [ -f pass-$n.code ] || continue
      section "pass $n"; cat pass-$n.jsonl 2>/dev/null; echo
      section "code $n"; cat pass-$n.code
      section "words $n"; tail -n 5 pass-$n.err
    done
  } >result.new && mv result.new result && touch done
}

drop() { # KEY...
  cd "$R/runs" || return 0
  for key in "$@"; do
    [ -f "$key/pid" ] && [ ! -f "$key/done" ] && kill -TERM "-$(cat "$key/pid")" 2>/dev/null
    rm -rf "$key"
  done
}

verb=$1
shift
$verb "$@"
