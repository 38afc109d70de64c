"use strict";

const place = new URL("v1/openapi.json", document.baseURI);
const caller = "X-User-Id";

/** Let the reader say once who is calling, instead of in every operation. */
function askOnceWhoCalls(description) {
  description.components.securitySchemes[caller] = {
    type: "apiKey",
    in: "header",
    name: caller,
    description: "The user for whom the key acts, if it has the right `act-as`.",
  };
  description.security = [{ bearer: [], [caller]: [] }];
  for (const operations of Object.values(description.paths)) {
    for (const operation of Object.values(operations)) {
      operation.parameters = operation.parameters.filter(({ name }) => name !== caller);
    }
  }
}

function followColorScheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", apply);
  apply();
}

async function show() {
  followColorScheme();
  const description = await (await fetch(place)).json();
  description.servers = [{ url: new URL("..", place).href.replace(/\/$/, "") }];
  askOnceWhoCalls(description);
  SwaggerUIBundle({
    spec: description,
    dom_id: "#page",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    docExpansion: "list",
    filter: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}

show();
