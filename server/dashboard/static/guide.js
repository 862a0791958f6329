// Hints for an empty page: what to do next, as a command that works with this coordinator.
import { h } from "./format.js";

export function startAStudy(origin, hasDevices) {
  return h("section.card.welcome", {},
    h("h1", {}, "No study yet"),
    h("p.muted", {}, "A study searches hybrid conv/attention decoders on your own devices. This page then shows every candidate as it is measured."),
    h("p", {}, "Start one:"),
    h("pre.command", {}, `hilnas search start --url ${origin} --space debug_space --protocol quick \\\n  --objective quality --objective decode_ms@256 --objective weight_bytes`),
    ...(hasDevices ? [] : [h("p", {}, "Nothing is measured until a device is enrolled. To enrol this machine:"), ...enrolADevice(origin)]));
}

function enrolADevice(origin) {
  return [h("pre.command", {}, `hilnas agent host --url ${origin}`),
    h("p.small.muted", {}, "On another machine, or if tokens are required: add --token, created with ", h("code", {}, "POST /api/v1/devices/tokens"), ".")];
}

export function noDevices(origin) {
  return h("div.hint", {}, h("p", {}, "No device is enrolled, so nothing can be measured. To enrol this machine:"), ...enrolADevice(origin));
}
