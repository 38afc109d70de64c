"use strict";

const place = new URL("v1/openapi.json", document.baseURI);
const callerHeaders = {
  "X-User-Id": "For whom the key acts, if it has the right act-as.",
  "X-User-Groups": "The groups of that user, separated by commas.",
  "X-Operator": "The name under which a key with the right operator acts.",
};

/** Let the reader say once who is calling, instead of in every operation. */
function askOnceWhoCalls(description) {
  const schemes = description.components.securitySchemes;
  for (const [name, about] of Object.entries(callerHeaders)) {
    schemes[name] = { type: "apiKey", in: "header", name, description: about };
  }
  const together = Object.fromEntries(Object.keys(schemes).map((name) => [name, []]));
  description.security = [together];
  for (const operations of Object.values(description.paths)) {
    for (const operation of Object.values(operations)) {
      operation.parameters = operation.parameters.filter(({ name }) => !(name in callerHeaders));
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
