/** What a newcomer sees first. */

import { DrawerButton } from "../parts/drawer";
import { Icon, type IconName } from "../parts/icon";
import { NewSessionForm } from "./new_session";

const PROMISES: [IconName, string, string][] = [
  ["talk", "Talk", "Ask an agent. Anybody with the link joins the same conversation, live."],
  ["memory", "Remember", "Everything said can be searched. Each reply shows what it rests on."],
  ["graph", "Learn", "Facts become a graph. Each one leads to the words it was taken from."],
  ["clock", "Look back", "Move one slider to see what was said and known at any moment."],
];

export function Home() {
  document.title = "Lorewire";
  return (
    <div class="home">
      <div class="home-bar">
        <DrawerButton />
      </div>
      <div class="home-body">
        <header class="home-head">
          <h1>Agent sessions that remember</h1>
          <p>
            Conversation, memory and knowledge come from one log of events, so nothing that was
            acknowledged is lost, and everything can be traced to where it was said.
          </p>
        </header>
        <ul class="promises">
          {PROMISES.map(([icon, name, text]) => (
            <li key={name}>
              <Icon name={icon} />
              <div>
                <strong>{name}</strong>
                <p>{text}</p>
              </div>
            </li>
          ))}
        </ul>
        <section class="card" aria-labelledby="start">
          <h2 id="start">Open a session</h2>
          <NewSessionForm />
        </section>
      </div>
    </div>
  );
}
