// What people paste, made plain: the same rules as the service's own, for fields that a page judges before it sends them.

const SEPARATORS = /[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Pd}.]/gu;
const UNSEEN = /[\p{White_Space}\p{Default_Ignorable_Code_Point}]/gu;

/** @param {string} text @returns {string} a NIK without the spaces, dots and hyphens it was written with */
export function tidyNik(text) {
  return text.normalize("NFKC").replace(SEPARATORS, "");
}

/** @param {string} text @returns {string} a ticket or a number, which hold no spaces */
export function tidyWord(text) {
  return text.replace(UNSEEN, "");
}
