// Round tick values. For log axes `low` and `high` are exponents of ten.
export function ticksOf(low, high, log, count) {
  return log ? logTicks(low, high, count) : linearTicks(low, high, count);
}

function linearTicks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) || 10);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high; index += 1) found.push(Number((index * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, count) {
  const decades = high - low;
  if (decades < 0.35) return linearTicks(10 ** low, 10 ** high, count);
  const factors = decades < 1.2 ? [1, 2, 3, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    for (const factor of factors) {
      const exponent = power + Math.log10(factor);
      if (exponent >= low && exponent <= high) found.push(factor * 10 ** power);
    }
  }
  return found;
}
