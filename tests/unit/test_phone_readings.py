"""Readings of a phone: every parser against the output Android prints, and what is concluded from two readings."""

from __future__ import annotations

import pytest

from contracts.measurement import Verdict
from device_agents.devices.android.condition import Limits, is_hot, mean_khz, residency, spoiled, unfit, with_clock
from device_agents.devices.android.doctor import parse_list
from device_agents.devices.android.facts import one_ui, phone_facts
from device_agents.devices.android.sections import (
    parse_battery,
    parse_clock,
    parse_disk,
    parse_policies,
    parse_props,
    parse_state,
    parse_thermal,
    split_sections,
)
from device_agents.devices.android.topology import big_cores, choose_cores, clusters
from device_agents.transports.errors import PhoneAbsent, PhoneBlocked, absent_or_blocked, usb_phones

BATTERY = """Current Battery Service state:
  (UPDATES STOPPED -- use 'reset' to restart)
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 81
  scale: 100
  voltage: 4210
  temperature: 312
  technology: Li-ion
"""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
	callbacks: 3
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=33.0, mType=3, mName=SKIN, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 2  connected: yes
Current temperatures from HAL:
	Temperature{mValue=41.2, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=31.2, mType=2, mName=BATTERY, mStatus=0}
	Temperature{mValue=33.5, mType=3, mName=SKIN, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=cpufreq-cpu0}
"""
POLICIES = """policy 0
related_cpus 0 1 2 3
cpuinfo_max_freq 1950000
scaling_max_freq 1950000
scaling_cur_freq 902000
scaling_governor energy_aware
in_state 400000 900
in_state 1950000 100
policy 4
related_cpus 4 5
cpuinfo_max_freq 3207000
scaling_max_freq 2112000
scaling_cur_freq 2112000
in_state 2112000 50
"""
S24 = {0: 1_950_000, 1: 1_950_000, 2: 1_950_000, 3: 1_950_000, 4: 2_600_000, 5: 2_600_000, 6: 2_600_000, 7: 2_900_000,
       8: 2_900_000, 9: 3_207_000}  # fmt: skip
S24_ULTRA = {
    0: 2_265_600,
    1: 2_265_600,
    **dict.fromkeys((2, 3, 4), 3_148_800),
    5: 2_956_800,
    6: 2_956_800,
    7: 3_398_400,
}
S25 = {**dict.fromkeys(range(6), 3_532_800), 6: 4_473_600, 7: 4_473_600}


def state(**changes: object) -> dict[str, object]:
    """A quiet reading of policy 4, cores 4 and 5."""
    policy = {"cpus": [4, 5], "scaling_max_freq": 2_112_000, "in_state": {2_112_000: 100, 400_000: 100}}
    return {"boot_id": "a", "epoch_s": 1000, "uptime_s": 50.0, "thermal_status": 0, "battery_c": 30.0,
            "policies": {4: policy}, **changes}  # fmt: skip


def test_battery_in_degrees_and_percent() -> None:
    found = parse_battery(BATTERY)
    assert found == {
        "battery_c": 31.2, "battery_level": 81, "charging": False, "power_source": "usb", "charging_stopped": True
    }  # fmt: skip


def test_thermal_status_and_the_sensors_of_the_hal_not_the_cached_ones() -> None:
    assert parse_thermal(THERMAL) == {"thermal_status": 1, "sensors_c": {"AP": 41.2, "BATTERY": 31.2, "SKIN": 33.5}}


def test_a_phone_that_tells_nothing_leaves_values_out() -> None:
    assert parse_battery("") == {} and parse_thermal("Can't find service: thermalservice") == {}
    assert parse_clock("") == {} and parse_disk("df: not found") == {} and parse_policies("") == {}
    assert parse_state({}) == {"policies": {}, "caps_khz": {}}


def test_policies() -> None:
    found = parse_policies(POLICIES)
    assert found[0]["cpus"] == [0, 1, 2, 3] and found[0]["scaling_governor"] == "energy_aware"
    assert found[4]["in_state"] == {2_112_000: 50} and found[4]["scaling_max_freq"] == 2_112_000


def test_sections_clock_and_disk() -> None:
    text = (
        "noise\n=== clock\n1766000000\n3f-1\n812.5\n=== disk\nFilesystem 1K-blocks Used Available\n/x 9 1 8 1% /data\n"
    )
    found = parse_state(split_sections(text))
    assert found["epoch_s"] == 1766000000 and found["boot_id"] == "3f-1" and found["free_bytes"] == 8192


def test_facts_of_a_phone() -> None:
    sections = {
        "props": "[ro.product.model]: [SM-S921B]\n[ro.serialno]: [R5CX12345]\n[ro.build.version.release]: [16]\n"
        "[ro.build.version.oneui]: [80000]\n[ro.soc.manufacturer]: [Samsung]\n[ro.soc.model]: [s5e9945]",
        "memory": "MemTotal:       7548000 kB\n", "cpuinfo": "processor : 0\nFeatures\t: fp asimd asimddp i8mm\n",
        "cpus": "\n".join(f"{cpu} {khz}" for cpu, khz in S24.items()), "policies": POLICIES, "page_size": "4096",
        "allowed": "Cpus_allowed_list:\t0-9",
    }  # fmt: skip
    facts = phone_facts(sections, "R5CX12345", None, "0.1.0")
    assert facts.name == "sm-s921b-2345" and facts.cores == 10 and facts.cpu_features == ["asimd", "asimddp", "i8mm"]
    assert facts.details["one_ui"] == "8.0" and facts.details["soc"] == "Samsung s5e9945"
    assert facts.details["affinity"]["2"] == [7, 8] and facts.details["page_size"] == 4096
    assert "virtual" not in facts.details and one_ui("60101") == "6.1.1"


@pytest.mark.parametrize(
    ("max_khz", "threads", "cores"),
    [
        (S24, 1, [9]), (S24, 2, [7, 8]), (S24, 4, [6, 7, 8, 9]), (S24_ULTRA, 2, [3, 4]), (S24_ULTRA, 4, [2, 3, 4, 7]),
        (S25, 2, [6, 7]), (S25, 4, [4, 5, 6, 7]), ({0: 0, 1: 0}, 2, [0, 1]),
    ],
)  # fmt: skip
def test_cores_are_chosen_by_frequency(max_khz: dict[int, int], threads: int, cores: list[int]) -> None:
    chosen = choose_cores(max_khz, threads)
    assert len(chosen) == threads
    assert min(max_khz[c] for c in chosen) >= min(max_khz[c] for c in cores)
    assert sorted(max_khz[c] for c in chosen) == sorted(max_khz[c] for c in cores)


def test_power_saving_clusters_are_no_big_cores() -> None:
    assert (
        big_cores(S24) == [4, 5, 6, 7, 8, 9] and big_cores(S24_ULTRA) == [2, 3, 4, 5, 6, 7] and len(big_cores(S25)) == 8
    )
    assert clusters(S25) == [(3_532_800, [0, 1, 2, 3, 4, 5]), (4_473_600, [6, 7])]


def test_a_quiet_run_is_not_spoiled() -> None:
    assert spoiled(state(), state(epoch_s=1060, uptime_s=110.0), [4]) is None


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"boot_id": "b"}, Verdict.DEVICE_LOST),
        ({"thermal_status": 2}, Verdict.THROTTLED),
        ({"policies": {4: {"cpus": [4, 5], "scaling_max_freq": 1_800_000}}}, Verdict.THROTTLED),
        ({"epoch_s": 4000}, Verdict.WRONG_CLOCK),
    ],
)
def test_what_spoils_a_run(changes: dict[str, object], verdict: Verdict) -> None:
    found = spoiled(state(), state(uptime_s=60.0, **{"epoch_s": 1010, **changes}), [4])
    assert found is not None and found[0] is verdict and found[1]


def test_caps_of_other_cores_do_not_matter() -> None:
    other = {4: state()["policies"][4], 0: {"cpus": [0], "scaling_max_freq": 900}}  # type: ignore[index]
    assert (
        spoiled(state(policies={**other, 0: {"cpus": [0], "scaling_max_freq": 1900}}), state(policies=other), [5])
        is None
    )


def test_residency_and_mean_frequency() -> None:
    after = state(policies={4: {"in_state": {2_112_000: 175, 400_000: 125}}})
    shares = residency(state(), after)
    assert shares == {"4": {"400000": 0.25, "2112000": 0.75}}
    assert mean_khz(shares, {"4"}) == pytest.approx(0.75 * 2_112_000 + 0.25 * 400_000) and mean_khz(shares, {"0"}) == 0


def test_the_clock_of_a_reading_that_arrives_late_is_judged_by_its_boot() -> None:
    known = with_clock(state(), {}, 1003.0)
    assert known["clock_off_s"] == -3.0
    late = with_clock(state(epoch_s=1100, uptime_s=150.0), known, 9000.0)
    assert late["clock_off_s"] == -3.0
    assert with_clock(state(epoch_s=4700, uptime_s=150.0), known, 9000.0)["clock_off_s"] == 3597.0
    assert with_clock(state(epoch_s=8990, boot_id="b"), known, 9000.0)["clock_off_s"] == -10.0


def test_fitness() -> None:
    assert unfit(state(battery_level=50, clock_off_s=-100.0), Limits()) is None
    assert unfit(state(battery_level=12), Limits())[0] is Verdict.LOW_BATTERY  # type: ignore[index]
    assert unfit(state(clock_off_s=-3600.0), Limits())[0] is Verdict.WRONG_CLOCK  # type: ignore[index]
    assert is_hot(state(battery_c=37.1), Limits()) and is_hot(state(thermal_status=1), Limits())
    assert not is_hot(state(), Limits())


def test_core_lists() -> None:
    assert parse_list(" 0-2,7\n") == {0, 1, 2, 7} and parse_list("") == set()


def test_getprop_values_may_hold_brackets() -> None:
    assert parse_props("[a.b]: [x [y]]\n[c]: []") == {"a.b": "x [y]", "c": ""}


def test_a_blocked_samsung_is_told_from_an_absent_phone(tmp_path) -> None:
    assert isinstance(absent_or_blocked("R5", tmp_path), PhoneAbsent)
    phone = tmp_path / "1-2"
    phone.mkdir()
    (phone / "idVendor").write_text("04e8\n")
    (phone / "serial").write_text("R5\n")
    assert isinstance(absent_or_blocked("R5", tmp_path), PhoneBlocked) and usb_phones(tmp_path) == []
    interface = phone / "1-2:1.1"
    interface.mkdir()
    for name, value in (("bInterfaceClass", "ff"), ("bInterfaceSubClass", "42"), ("bInterfaceProtocol", "01")):
        (interface / name).write_text(value)
    assert usb_phones(tmp_path) == ["R5"] and isinstance(absent_or_blocked("R6", tmp_path), PhoneAbsent)
