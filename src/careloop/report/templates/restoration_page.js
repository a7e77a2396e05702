(() => {
  const part = document.getElementById("compare");
  const stage = part.querySelector(".stage");
  const slider = stage.querySelector("input");
  const views = document.querySelectorAll(".view");
  const chosen = (name) => part.querySelector(`input[name=${name}]:checked`)?.value ?? "0";
  const choose = () => {
    const slice = chosen("slice"), window = chosen("window");
    for (const view of views) {
      view.classList.toggle("shown", view.dataset.slice === slice && (view.dataset.window ?? window) === window);
    }
  };
  const divide = () => stage.style.setProperty("--share", `${slider.value}%`);
  part.addEventListener("change", choose);
  slider.addEventListener("input", divide);
  document.documentElement.classList.add("live");
  choose();
  divide();
})();
