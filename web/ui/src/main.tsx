import { render } from "preact";
import { App } from "./app";
import { startRouter } from "./router";
import { applyTheme } from "./settings";
import "./style/base.css";
import "./style/layout.css";
import "./style/conversation.css";
import "./style/panels.css";

applyTheme();
startRouter();
render(<App />, document.getElementById("page")!);
