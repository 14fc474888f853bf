/** Which colour and name a type of entity has: the same in the drawing, the filter and the list. */

const KNOWN: Record<string, number> = {
  person: 0,
  place: 1,
  location: 1,
  fac: 1,
  gpe: 1,
  loc: 1,
  faction: 2,
  organization: 2,
  org: 2,
  norp: 2,
  item: 3,
  product: 3,
  sample: 3,
  creature: 4,
  instrument: 4,
  event: 5,
  entity: 7,
  literal: 7,
};
const COLOURS = 8;

/** What extractors shorten, in words. */
const NAMES: Record<string, string> = {
  fac: "building",
  gpe: "place",
  loc: "region",
  norp: "people",
  org: "organization",
};

export function typeName(type: string): string {
  return NAMES[type] ?? type.replace(/_/g, " ");
}

export function kindOf(type: string): number {
  const known = KNOWN[type];
  if (known !== undefined) return known;
  let sum = 0;
  for (const letter of type) sum = (sum * 31 + letter.codePointAt(0)!) % 9973;
  return sum % (COLOURS - 1);
}
