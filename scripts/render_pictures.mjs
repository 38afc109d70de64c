// Render docs/pictures/*.d2 as SVG, light and dark.
//
//     npm install --no-save --prefix /tmp/d2 @terrastruct/d2@0.1.33
//     node scripts/render_pictures.mjs /tmp/d2/node_modules
//
// The SVG files are committed, so that nobody needs Node.js to read the documents. Each names the
// digest of its source; a test compares.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const modules = process.argv[2] ?? "node_modules";
const d2Path = join(modules, "@terrastruct/d2/dist/node-esm/index.js");
const { D2 } = await import(pathToFileURL(d2Path).href);

const folder = join(dirname(fileURLToPath(import.meta.url)), "../docs/pictures");
const themes = { light: 0, dark: 200 };

const d2 = new D2();
for (const name of readdirSync(folder).filter((name) => name.endsWith(".d2"))) {
  const source = readFileSync(join(folder, name), "utf8");
  const digest = createHash("sha256").update(source).digest("hex");
  for (const [theme, themeID] of Object.entries(themes)) {
    const { diagram, renderOptions } = await d2.compile(source, { layout: "elk" });
    const svg = await d2.render(diagram, { ...renderOptions, themeID, pad: 16, noXMLTag: true });
    const file = name.replace(".d2", `-${theme}.svg`);
    writeFileSync(join(folder, file), `<!-- source sha256: ${digest} -->\n${svg}\n`);
    console.log(file, svg.length, "bytes");
  }
}
process.exit(0);
