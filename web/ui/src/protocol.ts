/** The wire protocol `lorewire.v1` as types: what the server says, and what can be asked of it. */

export type Role = "user" | "agent" | "seed";

export interface Entry {
  entry_id: string; // q-<turn>, r-<turn>, or s-<n> for seed knowledge
  role: Role;
  speaker: string;
  text: string;
  turn_id: string | null;
  position: number;
  timestamp: string;
}

export interface Hit extends Entry {
  highlights: { start: number; end: number }[]; // in code points of `text`
  relevance_score: number; // 0..1
  ranks: { keyword: number | null; semantic: number | null };
}

export interface GraphNode {
  id: string;
  name: string;
  type: string;
  description: string;
  metadata?: { aliases?: string[]; position?: number; [name: string]: unknown };
}

export interface GraphEdge {
  id: string; // of the statement that it stands for
  source: string;
  target: string;
  type: string;
  description: string;
  metadata?: {
    quote?: string;
    speaker?: string;
    turn_id?: string | null;
    said_at?: string | null;
    extractor?: string;
    confidence?: number;
    position?: number;
    source_position?: number;
    [name: string]: unknown;
  };
}

export interface GraphData {
  nodes: GraphNode[];
  edges: GraphEdge[];
  view_position: number;
}

export interface Fact {
  statement_id: string;
  subject: string;
  predicate: string;
  object: string;
  text: string;
  quote: string;
  speaker: string;
  turn_id: string | null;
  extractor: string;
  confidence: number;
  said_at: string;
  position: number;
}

export interface SessionConfig {
  domain: string;
  llm_model: string | null;
  enable_graph: boolean;
  max_memory_size: number | null;
  custom_config: Record<string, unknown>;
}

export interface SessionSummary {
  session_id: string;
  user_id: string;
  title: string | null;
  status: string;
  created_at: string;
  last_activity: string;
  config: SessionConfig;
}

export interface Domain {
  name: string;
  title: string;
  description: string;
  agent_name: string;
}

export interface Cause {
  user_id: string;
  connection_id: string | null;
  request_id: string | null;
}

/** One stored event, as the audit view shows it. */
export interface StoredEvent {
  position: number;
  type: string;
  stream: string;
  timestamp: string;
  cause: Cause;
  data: Record<string, unknown>;
  error?: string;
}

interface Common {
  session_id?: string;
  timestamp: string;
}

export interface MessageData {
  connection_established: Common & {
    connection_id: string;
    protocol: string;
    epoch: string;
    heartbeat_interval_s: number;
    heartbeat_timeout_s: number;
    recovered: boolean;
  };
  query_received: Common & {
    turn_id: string;
    message: string;
    context: Record<string, unknown>;
    connection_id: string | null;
    user_id: string;
  };
  typing_start: Common & { turn_id: string };
  typing_stop: Common & { turn_id: string };
  query_response: Common & {
    turn_id: string;
    message: string;
    partial: boolean;
    first_sequence?: number; // pieces that waited come as one: this to `sequence`
    sequence?: number;
    model?: string;
    usage?: Usage | null;
    recalled?: string[];
    facts?: string[];
    graph_position?: number | null;
    failed?: boolean;
    cancelled?: boolean;
    code?: string;
    error?: string;
  };
  memory_updated: Common & { update_type: string; turn_id: string | null; entries: Entry[] };
  graph_updated: Common & {
    update_type: string;
    added: { nodes: GraphNode[]; edges: GraphEdge[] };
    removed: { nodes: string[]; edges: string[] };
  };
  connection_joined: Common & { connection_id: string; user_id: string; connections: number };
  connection_left: Common & { connection_id: string; user_id: string; connections: number };
  session_updated: Common & { changes: { title?: string | null; config?: SessionConfig } };
  session_deleted: Common;
  status_response: Common & {
    title: string | null;
    config: SessionConfig;
    model: string;
    connections: number;
    turn: { turn_id: string; waiting: number } | null;
    turns_total: number;
    memory_entries: number;
    graph: { entities: number; statements: number };
    position: number;
    lag: number;
  };
  cancel_response: Common & { turn_id: string | null; cancelled: boolean };
  heartbeat_response: Common & { connection_id: string };
  retract_statement_response: Common & { statement_id: string };
  merge_entities_response: Common & { merge_id: string };
  split_entities_response: Common & { merge_id: string };
  error: Common & { code: string; error: string; details?: unknown };
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
}

/** Any message of the session socket; types that this page doesn't know are passed over. */
export type ServerMessage = {
  [Type in keyof MessageData]: {
    type: Type;
    data: MessageData[Type];
    id?: string;
    position?: number;
    view_position?: number;
  };
}[keyof MessageData];

export type Pushed<Type extends keyof MessageData> = Extract<ServerMessage, { type: Type }>;

export interface MonitorCounts {
  active_sessions: number;
  active_connections: number;
  timestamp: string;
}

export interface MonitorUpdate extends MonitorCounts {
  events_total: number;
  events_per_second: number;
  turns_running: number;
  projections: Record<string, { position: number; lag: number }>;
  rss_bytes: number;
  uptime_s: number;
}

export type MonitorMessage =
  | { type: "monitor_connected"; data: MonitorCounts }
  | { type: "monitor_update"; data: MonitorUpdate }
  | {
      type: "session_created" | "session_deleted" | "connection_opened" | "connection_closed";
      data: {
        session_id: string;
        timestamp: string;
        user_id?: string;
        connection_id?: string;
        code?: number;
      };
    };

/** Close codes after which a client does not come back. */
export const FINAL_CODES: Record<number, string> = {
  1008: "The server refused this connection.",
  4001: "The server does not know who you are.",
  4003: "This session belongs to somebody else.",
  4004: "There is no such session.",
  4010: "This session was deleted.",
};
