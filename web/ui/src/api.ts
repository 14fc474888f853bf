/** The server over HTTP. Every function raises ApiError with a sentence for the reader. */

import type {
  Domain,
  Fact,
  GraphData,
  Hit,
  SessionConfig,
  SessionSummary,
  StoredEvent,
} from "./protocol";

export class ApiError extends Error {
  constructor(
    readonly code: string,
    sentence: string,
  ) {
    super(sentence);
  }
}

export interface SearchOptions {
  type?: "hybrid" | "semantic" | "keyword";
  role?: string | undefined;
  asOf?: number | null;
  limit?: number;
  signal?: AbortSignal;
}

export interface SearchResult {
  results: Hit[];
  total: number;
  took_ms: number;
}

type Parameters = Record<string, string | number | null | undefined>;

export function listSessions(q: string, limit: number, signal?: AbortSignal) {
  return call<{ sessions: SessionSummary[]; total: number }>("GET", "/sessions", {
    query: { q: q || undefined, limit },
    signal,
  });
}

export function openSession(userId: string, title: string, domain: string) {
  const body = { user_id: userId, ...(title && { title }), config: { domain } };
  return call<{ session_id: string }>("POST", "/sessions", { body });
}

export function readSession(id: string) {
  return call<SessionSummary>("GET", session(id));
}

export function changeSession(
  id: string,
  userId: string,
  changes: { title?: string; config?: Partial<SessionConfig> },
) {
  return call<SessionSummary>("PATCH", session(id), {
    body: changes,
    query: { user_id: userId },
  });
}

export function deleteSession(id: string, userId: string) {
  return call<{ status: string }>("DELETE", session(id), { query: { user_id: userId } });
}

export async function listDomains(): Promise<Domain[]> {
  return (await call<{ domains: Domain[] }>("GET", "/domains")).domains;
}

export function readDomain(name: string) {
  return call<Domain>("GET", `/domains/${encodeURIComponent(name)}`);
}

/** Stored events after a position, oldest first. */
export function readEvents(id: string, after: number, limit: number) {
  return call<{ events: StoredEvent[]; has_more: boolean }>("GET", `${session(id)}/events`, {
    query: { after, limit },
  });
}

export function searchMemory(id: string, query: string, options: SearchOptions) {
  const filters = options.role ? { role: options.role } : {};
  const asOf = options.asOf == null ? {} : { as_of: options.asOf };
  return call<SearchResult>("POST", `${session(id)}/memory/search`, {
    body: { query, type: options.type ?? "hybrid", limit: options.limit ?? 30, filters, ...asOf },
    signal: options.signal,
  });
}

/** What is remembered, newest first. */
export function readMemory<Kind extends "conversations" | "facts">(
  id: string,
  type: Kind,
  options: { limit: number; offset?: number; asOf?: number | null; signal?: AbortSignal },
) {
  type Item = Kind extends "facts" ? Fact : Hit;
  return call<{ data: Item[]; total: number }>("GET", `${session(id)}/memory`, {
    query: { type, limit: options.limit, offset: options.offset, as_of: options.asOf },
    signal: options.signal,
  });
}

export function readGraph(id: string, asOf: number | null) {
  return call<GraphData>("GET", `${session(id)}/graph`, { query: { as_of: asOf } });
}

export function graphExportUrl(id: string, format: string, asOf: number | null): string {
  return url(`${session(id)}/graph`, { format, as_of: asOf });
}

function session(id: string): string {
  return `/sessions/${encodeURIComponent(id)}`;
}

function url(path: string, query: Parameters = {}): string {
  const given = Object.entries(query).filter(([, value]) => value != null);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return `/api/v1${path}${given.length ? `?${text}` : ""}`;
}

async function call<Answer>(
  method: string,
  path: string,
  options: { query?: Parameters; body?: unknown; signal?: AbortSignal | undefined } = {},
): Promise<Answer> {
  const init: RequestInit = { method, headers: { Accept: "application/json" } };
  if (options.body !== undefined) {
    init.body = JSON.stringify(options.body);
    init.headers = { ...init.headers, "Content-Type": "application/json" };
  }
  if (options.signal) init.signal = options.signal;
  let response: Response;
  try {
    response = await fetch(url(path, options.query), init);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("unreachable", "The server does not answer.");
  }
  const answer: unknown = await response.json().catch((error: unknown) => {
    if (isAbort(error)) throw error;
    return null;
  });
  if (!response.ok || answer === null) {
    const refusal = answer as { code?: string; error?: string } | null;
    throw new ApiError(
      refusal?.code ?? "internal",
      refusal?.error ?? `The server answered with status ${response.status}.`,
    );
  }
  return answer as Answer;
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
