// PromptVault by its Prisma client: `node promptvault.cjs FILE register|sign-in EMAIL PASSWORD`. A sign-in prints what the pages of the user show.
const { compareSync, hashSync } = require("bcryptjs");
const { PrismaLibSql } = require("@prisma/adapter-libsql");
const { PrismaClient } = require("./client");

const [file, command, email, password] = process.argv.slice(2);
const adapter = new PrismaLibSql({ url: `file:${file}` }, { timestampFormat: "unixepoch-ms" });
const prisma = new PrismaClient({ adapter });

async function register() {
  const { id: team } = await prisma.team.findFirst();
  const text = { title: "Letter to the mill", body: "Write to Dora about flour." };
  const tag = { tag: { create: { name: "flour" } } };
  const prompt = { ...text, visibility: "TEAM", versions: { create: text }, tags: { create: tag } };
  const user = { email, name: "Dora Mill", password: hashSync(password, 4), team, teams: { create: { teamId: team } } };
  await prisma.user.create({ data: { ...user, prompts: { create: prompt } } });
}

async function signIn() {
  const details = { tags: { include: { tag: true } }, versions: true, ratings: true };
  const user = await prisma.user.findUnique({ where: { email }, include: { prompts: { include: details } } });
  return {
    accepted: user !== null && compareSync(password, user.password),
    prompts: user?.prompts,
    team: user?.team && (await prisma.team.findUnique({ where: { id: user.team } })),
    feed: user?.team && (await prisma.prompt.findMany({ where: { visibility: "TEAM", user: { team: user.team } } })),
    users: await prisma.user.count(),
    settings: await prisma.settings.findFirst(),
  };
}

(command === "register" ? register() : signIn()).then((result) => console.log(JSON.stringify(result ?? {})));
