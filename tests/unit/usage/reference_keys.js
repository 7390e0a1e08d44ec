// The keys as a JavaScript server makes them, from docs/reference/usage-keys.md alone. Reads lines of
// {"site", "now", "text"}, where text is the body of a request, and answers each with a line of three keys or
// the words that stand for none. Run with TZ=UTC.
"use strict";

const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const floorTo = (time, width) => Math.floor(time / width) * width;
const textOr = (value, other) => (typeof value === "string" && value !== "" ? value : other);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function address(value) {
  if (value === undefined || value === null) return "";
  try {
    return String(value).trim();
  } catch {
    throw "url_not_text";
  }
}

function read(body) {
  if (!isObject(body)) throw "payload_not_object";
  const site = textOr(body.s, "").trim();
  const url = address(body.url);
  const other = address(body.u);
  if (site === "" || (url === "" && other === "")) throw "missing_site_or_url";
  const meta = isObject(body.meta) ? body.meta : {};
  return {
    ec: textOr(body.ec, ""),
    ea: textOr(body.ea, ""),
    el: textOr(body.el, ""),
    url: url === "" ? other : url,
    visitor: textOr(meta.fp, textOr(body.sid, "")),
    metaTs: meta.ts,
  };
}

function clientTime(body, event) {
  const iso = /^\d{4}-\d{2}-\d{2}T/;
  let time = [body.ts, body.timestamp, body.created_at, event.metaTs].find((each) => typeof each === "number");
  if (time === undefined) {
    if (typeof body.ts === "string") time = parseFloat(body.ts);
    else {
      const date = [body.timestamp, body.created_at].find((each) => typeof each === "string" && iso.test(each));
      time = date === undefined ? NaN : Date.parse(date);
    }
  }
  if (time < 1e12) time *= 1000;
  return Number.isFinite(time) ? Math.floor(time) : null;
}

function timeV2(body, event, now) {
  const near = () => {
    const client = clientTime(body, event);
    return client !== null && Math.abs(client - now) <= 300000 ? client : now;
  };
  if (event.ea === "heartbeat") return floorTo(near(), 10000);
  if (event.ec === "page" || event.ea === "page_view") return floorTo(near(), 2000);
  if (event.ea === "click" || event.ec === "click" || event.ea === "call_intent") return now;
  return floorTo(now, 2000);
}

function digest(site, event, time) {
  const name = `${event.ec}|${event.ea}|${event.el}`;
  return sha256(new TextEncoder().encode(`${site}:${name}:${event.url.slice(0, 4096)}:${event.visitor}:${time}`));
}

function wtf8(text) {
  const parts = Array.from(text, (character) => {
    const point = character.codePointAt(0);
    if (point < 0xd800 || point > 0xdfff) return Buffer.from(character, "utf8");
    return Buffer.from([0xe0 | (point >> 12), 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f)]);
  });
  return Buffer.concat(parts);
}

function digestV3(...fields) {
  const parts = ["usage-key/3", ...fields].flatMap((field) => {
    const bytes = wtf8(field);
    return [Buffer.from(`${bytes.length}:`), bytes, Buffer.from(",")];
  });
  return sha256(Buffer.concat(parts));
}

function keyV3(site, body, event, now) {
  const id = body.event_id;
  if (id !== undefined && id !== null) {
    if (typeof id !== "string" || id === "") throw "event_id_not_text";
    return `v3:${digestV3("id", site, id)}`;
  }
  if (event.visitor === "") throw "missing_identity";
  const { ec, ea, el, url, visitor } = event;
  return `v3:${digestV3("content", site, ec, ea, el, url, visitor, String(floorTo(now, 5000)))}`;
}

function orWords(make) {
  try {
    return make();
  } catch (words) {
    if (typeof words === "string") return words;
    throw words;
  }
}

function answer(line) {
  const { site, now, text } = JSON.parse(line);
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    return ["no_json", "no_json", "no_json"];
  }
  return [
    orWords(() => digest(site, read(body), floorTo(now, 5000))),
    orWords(() => {
      const event = read(body);
      return `v2:${digest(site, event, timeV2(body, event, now))}`;
    }),
    orWords(() => keyV3(site, body, read(body), now)),
  ];
}

const lines = readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
process.stdout.write(lines.map((line) => `${JSON.stringify(answer(line))}\n`).join(""));
