// Creates hashes with the packages that applications for Node.js use, and verifies hashes of dbctl. The input has the keys password,
// other and created (hashes by prefix); both input and output are JSON.
const argon2 = require("argon2");
const bcrypt = require("bcrypt");
const bcryptjs = require("bcryptjs");
const bcryptjs2 = require("bcryptjs-2");

const { password, other, created } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const costs = { type: argon2.argon2id, memoryCost: 64, timeCost: 1, parallelism: 1 };
const formats = {
  bcryptjs: { prefix: "$2b$04$", create: (text) => bcryptjs.hashSync(text, 4), verify: bcryptjs.compareSync },
  "bcryptjs-2": { prefix: "$2a$04$", create: (text) => bcryptjs2.hashSync(text, 4), verify: bcryptjs2.compareSync },
  bcrypt: { prefix: "$2b$04$", create: (text) => bcrypt.hashSync(text, 4), verify: bcrypt.compareSync },
  argon2: { prefix: "$argon2id$v=19$m=64,t=1,p=1$", create: (text) => argon2.hash(text, costs), verify: (text, stored) => argon2.verify(stored, text) },
};

async function main() {
  const results = {};
  for (const [name, { prefix, create, verify }] of Object.entries(formats)) {
    const stored = created[prefix];
    results[name] = { hash: await create(password), accepts: await verify(password, stored), accepts_other: await verify(other, stored) };
  }
  // the costs without options
  const defaults = {
    bcryptjs: bcryptjs.genSaltSync(),
    "bcryptjs-2": bcryptjs2.genSaltSync(),
    bcrypt: bcrypt.genSaltSync(),
    argon2: await argon2.hash(password),
  };
  const prefixes = {};
  for (const [name, stored] of Object.entries(defaults)) {
    prefixes[name] = stored.match(/^(\$2.\$\d\d|\$argon2id\$[^$]+\$[^$]+)\$/)[0];
  }
  console.log(JSON.stringify({ formats: results, prefixes }));
}

main();
