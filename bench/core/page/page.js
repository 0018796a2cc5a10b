// Runs in the reader's browser: hands the embedded result over as a file, and opens everything for print.
(() => {
  const button = document.getElementById("download");
  button.addEventListener("click", () => {
    const text = `${JSON.stringify(JSON.parse(document.getElementById("result").textContent), null, 2)}\n`;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
})();
