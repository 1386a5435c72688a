// Makes flashpoint-launcher-extras.sqlite with the launcher's own engine, so that its schema and habits are real:
//   npm install @fparchive/flashpoint-archive@0.11.2 && node make-extras.mjs flashpoint-launcher-extras.sqlite
// Needs sqlite3 on the path: what that engine cannot set (broken, extreme, play dates) is set by SQL afterwards.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

// From the folder where npm installed it: the folder one calls this from.
const { FlashpointArchive } = createRequire(`${process.cwd()}/`)('@fparchive/flashpoint-archive');

const file = process.argv[2];
if (!file || existsSync(file)) {
  console.error('usage: node make-extras.mjs NEW-FILE');
  process.exit(2);
}

const id = (number) => `20000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
const archive = new FlashpointArchive();
archive.loadDatabase(file);

for (const [name, color] of [['genre', '#3060a0'], ['theme', '#30a060'], ['warning', '#a03030']]) {
  await archive.createTagCategory({ id: -1, name, color, description: `Tags of the kind ${name}` });
}
for (const [name, category] of [['Action', 'genre'], ['Puzzle', 'genre'], ['Space', 'theme'], ['Gore', 'warning'], ['Nobody Uses This', 'theme']]) {
  await archive.createTag(name, category);
}
for (const name of ['Flash', 'HTML5', 'Shockwave']) {
  await archive.createPlatform(name);
}
// Aliases: a search by either name finds the same games.
await archive.saveTag({ ...(await archive.findTag('Puzzle')), aliases: ['Puzzle', 'Brain Teaser'] });
await archive.savePlatform({ ...(await archive.findPlatform('Shockwave')), aliases: ['Shockwave', 'Director'] });

const titles = {
  1: 'Parent of Two', 2: 'First Child', 3: 'Second Child', 4: '100% Sure_Thing', 5: "It's \"Quoted\"", 6: '[bold]Markup[/bold]',
  7: 'Überraschung 日本', 8: 'Three Data Entries', 9: 'No Data At All', 10: 'Wanted: Redirected Here', 11: 'Many Tags', 12: 'No Tags',
};
const releases = ['', '2005', '2005-03', '2005-03-07', '1999-12-31', '2016-02-29'];
for (let number = 1; number <= 60; number++) {
  const tags = number === 12 ? [] : number === 11 ? ['Space', 'Puzzle', 'Action'] : [['Action', 'Puzzle', 'Space'][number % 3]];
  await archive.createGame({
    id: id(number),
    title: titles[number] ?? `Extra Game ${number}`,
    alternateTitles: number % 10 === 0 ? `Also Known as ${number}` : '',
    series: number <= 3 ? 'Family' : '',
    developer: number % 2 ? 'Odd Studio' : 'Even Works',
    publisher: number % 4 ? '' : 'Fourth Press',
    platforms: number % 7 === 0 ? ['Flash', 'HTML5'] : [['Flash', 'HTML5', 'Shockwave'][number % 3]],
    primaryPlatform: number % 7 === 0 ? 'Flash' : ['Flash', 'HTML5', 'Shockwave'][number % 3],
    playMode: number % 9 ? 'Single Player' : 'Cooperative; Multiplayer',
    status: number % 13 ? 'Playable' : 'Partial',
    notes: number % 6 ? '' : 'needs a mouse',
    tags,
    source: 'https://example.org/',
    releaseDate: releases[number % releases.length],
    originalDescription: `The ${number}th of the extras.`,
    language: number % 5 ? 'en' : 'ja; en',
    library: number % 8 ? 'arcade' : 'theatre',
    legacyApplicationPath: 'FPSoftware\\player.exe',
    legacyLaunchCommand: `http://example.org/${number}/start.swf`,
    ruffleSupport: number % 4 ? '' : 'standalone',
    dateAdded: `2022-03-${String(1 + (number % 28)).padStart(2, '0')}T08:00:00.000Z`,
    dateModified: `2024-03-${String(1 + (number % 28)).padStart(2, '0')}T08:00:00.000Z`,
  });
  for (let entry = 1; number !== 9 && entry <= (number === 8 ? 3 : 1 + (number % 10 === 0)); entry++) {
    await archive.createGameData({
      gameId: id(number),
      title: `Data ${entry}`,
      dateAdded: `2022-0${3 + entry}-01T00:00:00.000Z`,
      sha256: number.toString(16).padStart(62, '0') + entry.toString(16).padStart(2, '0'),
      crc32: 1000 * number + entry,
      presentOnDisk: (number + entry) % 2 === 0,
      path: `Games/${id(number)}-${entry}.zip`,
      size: 4096 * number + entry,
      applicationPath: 'FPSoftware\\player.exe',
      launchCommand: `http://example.org/${number}/data${entry}.swf`,
    });
  }
}

for (const [number, name] of [[1, 'Manual'], [1, 'Level Editor'], [4, ':extras:'], [10, 'Credits']]) {
  await archive.createAddApp({
    id: `30000000-0000-4000-8000-${String(100 * number + name.length).padStart(12, '0')}`,
    name, applicationPath: name === ':extras:' ? ':extras:' : 'FPSoftware\\viewer.exe', launchCommand: `extras/${number}/${name}`,
    autoRunBefore: name === 'Manual', waitForExit: false, parentGameId: id(number),
  });
}
// Two ids that were merged into the tenth game.
await archive.createGameRedirect('99999999-0000-4000-8000-000000000001', id(10));
await archive.createGameRedirect('99999999-0000-4000-8000-000000000002', id(10));

execFileSync('sqlite3', [file], { input: `
  update game set parentGameId = '${id(1)}' where id in ('${id(2)}', '${id(3)}');
  update game set broken = 1 where cast(substr(id, -2) as integer) % 10 = 3;
  update game set extreme = 1 where cast(substr(id, -2) as integer) % 15 = 0;
  update game set orderTitle = lower(title) where cast(substr(id, -2) as integer) % 2 = 0;
  update game set lastPlayed = '2025-05-' || printf('%02d', 1 + cast(substr(id, -2) as integer) % 28) || 'T20:00:00.000Z',
    playtime = 60 * cast(substr(id, -2) as integer), playCounter = cast(substr(id, -2) as integer) % 7
    where cast(substr(id, -2) as integer) % 4 = 1;
  update game set activeDataId = (select max(id) from game_data where gameId = game.id);
  update game set activeDataId = -1 where id = '${id(19)}';
  update game set activeDataOnDisk = coalesce((select presentOnDisk from game_data where id = activeDataId), 0);
  update game set archiveState = cast(substr(id, -2) as integer) % 3;
  update tag set dateModified = '2024-01-01 00:00:00.000';
  update platform set dateModified = '2024-01-01 00:00:00.000';
  update game_redirect set dateAdded = '2024-01-01T00:00:00.000Z';
  pragma wal_checkpoint(truncate);
  vacuum;
` });
