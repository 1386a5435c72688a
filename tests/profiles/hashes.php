// Creates hashes as PHP applications do, and verifies hashes of dbctl. $input has the keys password, other and created (hashes by prefix);
// the output is JSON. The functions of applications are reduced to their calls of PHP.

// WordPress before 6.8: phpass, MD5 in rounds; the letters of the base are those of crypt()
function hash_portable(string $password, string $setting): string
{
    $letters = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
    $digest = md5(substr($setting, 4, 8) . $password, true);
    for ($round = 1 << strpos($letters, $setting[3]); $round > 0; $round--) {
        $digest = md5($digest . $password, true);
    }
    $text = substr($setting, 0, 12);
    for ($index = 0; $index < 16; $index += 3) {
        $bits = 0;
        foreach (str_split(substr($digest, $index, 3)) as $place => $byte) {
            $bits |= ord($byte) << (8 * $place);
        }
        for ($place = 0; $place <= min(3, 16 - $index); $place++) {
            $text .= $letters[($bits >> (6 * $place)) & 63];
        }
    }
    return $text;
}

// WordPress since 6.8
function prehash(string $password): string
{
    return base64_encode(hash_hmac('sha384', trim($password), 'wp-sha384', true));
}

// MediaWiki: Pbkdf2Password; the parts are type, algorithm, rounds, length, salt and digest
function hash_mediawiki(string $password, string $stored): string
{
    [, $type, $algorithm, $rounds, $length, $salt] = explode(':', $stored);
    $digest = hash_pbkdf2($algorithm, $password, base64_decode($salt), (int) $rounds, (int) $length, true);
    return ":$type:$algorithm:$rounds:$length:$salt:" . base64_encode($digest);
}

$bcrypt = fn ($password) => password_hash($password, PASSWORD_BCRYPT, ['cost' => 4]);
$crypt = fn ($salt) => [fn ($password) => crypt($password, $salt), 'password_verify'];
$formats = [
    '$2y$04$' => [$bcrypt, 'password_verify'],
    '1|$2y$04$' => [fn ($password) => '1|' . $bcrypt($password), fn ($password, $stored) => password_verify($password, explode('|', $stored, 2)[1])],
    '$wp$2y$04$' => [fn ($password) => '$wp' . $bcrypt(prehash($password)), fn ($password, $stored) => password_verify(prehash($password), substr($stored, 3))],
    '$5$rounds=1000$' => $crypt('$5$rounds=1000$saltsalt$'),
    '$6$rounds=1000$' => $crypt('$6$rounds=1000$saltsalt$'),
    '$6$' => $crypt('$6$saltsalt$'),
    '$P$5' => [fn ($password) => hash_portable($password, '$P$5saltsalt'), fn ($password, $stored) => hash_portable($password, $stored) === $stored],
    ':pbkdf2:sha512:9:64:' => [
        fn ($password) => hash_mediawiki($password, ':pbkdf2:sha512:9:64:' . base64_encode('sixteen bytes...')),
        fn ($password, $stored) => hash_mediawiki($password, $stored) === $stored,
    ],
];
$prefixes = ['nextcloud' => null, 'wordpress' => '$P$' . './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'[8 + 5]];
if (defined('PASSWORD_ARGON2ID')) {
    $argon2 = fn ($password) => password_hash($password, PASSWORD_ARGON2ID, ['memory_cost' => 64, 'time_cost' => 1, 'threads' => 1]);
    $formats['$argon2id$v=19$m=64,t=1,p=1$'] = [$argon2, 'password_verify'];
    $formats['3|$argon2id$v=19$m=64,t=1,p=1$'] = [fn ($password) => '3|' . $argon2($password), fn ($password, $stored) => password_verify($password, explode('|', $stored, 2)[1])];
    $costs = 'm=' . PASSWORD_ARGON2_DEFAULT_MEMORY_COST . ',t=' . PASSWORD_ARGON2_DEFAULT_TIME_COST . ',p=' . PASSWORD_ARGON2_DEFAULT_THREADS;
    $prefixes['nextcloud'] = "3|\$argon2id\$v=19\$$costs\$";
}
$results = [];
foreach ($formats as $prefix => [$create, $verify]) {
    $stored = $input['created'][$prefix];
    $results[$prefix] = ['hash' => $create($input['password']), 'accepts' => $verify($input['password'], $stored), 'accepts_other' => $verify($input['other'], $stored)];
}
echo json_encode(['formats' => $results, 'prefixes' => array_filter($prefixes)]);
