#include "runner/sha256.h"

#include "tests/check.h"

using hilnas::Sha256;

static std::string digest(const std::string& text, size_t piece) {
  Sha256 sha;
  for (size_t i = 0; i < text.size(); i += piece) {
    sha.update(reinterpret_cast<const uint8_t*>(text.data()) + i, std::min(piece, text.size() - i));
  }
  return sha.hex_digest();
}

int main() {
  // FIPS 180-4 examples.
  CHECK(digest("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "empty");
  CHECK(digest("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc");
  const std::string million(1000000, 'a'),
      expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  for (size_t piece : {1, 63, 64, 65, 1000, 1000000}) CHECK(digest(million, piece) == expected, std::to_string(piece));
  return hilnas::test::finish();
}
