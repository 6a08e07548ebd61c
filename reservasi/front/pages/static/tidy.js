// Normalises pasted text by the service's rules, for fields that the page checks before sending.

const SEPARATORS = /[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Pd}.]/gu;
const UNSEEN = /[\p{White_Space}\p{Default_Ignorable_Code_Point}]/gu;

/** @param {string} text @returns {string} a NIK without the spaces, dots and hyphens it was written with */
export function tidyNik(text) {
  return text.normalize("NFKC").replace(SEPARATORS, "");
}

/** @param {string} text @returns {string} a ticket or a number, without spaces */
export function tidyWord(text) {
  return text.replace(UNSEEN, "");
}
