// Every visible text with the contrast of its colour and the ground behind it, as WCAG 2.2 defines it.
() => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("body *")].filter(
    (each) => each.checkVisibility() && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()),
  );
  return texts.map((each) => {
    const [light, dark] = [luminance(getComputedStyle(each).color), luminance(ground(each))].sort((a, b) => b - a);
    return [`${each.tagName} ${each.textContent.trim().slice(0, 40)}`, (light + 0.05) / (dark + 0.05)];
  });
}
