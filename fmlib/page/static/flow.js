// Flow matching's closed forms, computed in the page while the reader drags. This is the door; each room is one idea.
//
// Pure functions in double precision, without the page. Conventions, those of fmlib: t = 0 is noise, t = 1 is data.
//   x         flat numbers of n points, n d of them, d = means[0].length, 1 or 2
//   mixture   { means: [[...] ...], stds: [...], weights: [...] }; checkMixture(json) makes one or says what is wrong
//   path      makePath(name, params)
//   field     a function (t, x, out); velocityField(mixture, path) is one
//   random    makeRandom(seed)
// normalised(path) divides by sqrt(alpha^2 + sigma^2); angleOf(path, t) and timeAt(path, angle) know alpha / sigma.
// Where a function has `out` at its end (or among its options), the answer is written there instead of to new memory.
//
//   logProb, score, velocity, posteriorMeanX1, posteriorMeanX0   (mixture, path, t, x, out)
//   sample(mixture, n, random, out)    samplePrior(path, n, d, random, out)
//   samplePairs(mixture, path, t, point, n, random, out) -> { x0, x1 }
//   gridDensity, gridField   (mixture, path, t, xs, ys, out)    gridPoints(xs, ys, out)    cellCentres(low, high, n)
//   solve(field, x0, { solver, steps, tStart, tEnd, grid, path, out }) -> { ts, states }    grid: shiftGrid(shift)
//   stages(field, x, t, next, { solver, path }) -> { calls: [{ t, x, k }], end }: one step laid open
//   solveSde(field, x0, { noise, corrected, steps, tStart, tEnd, path, random, out }) -> { ts, states }
//   guided({ conditional, unconditional }, scale) -> field
//   withAdded(field, name, strength, mixture, path) -> field
//   massInBox, massRate   (mixture, path, t, box)    fluxIntoBox(mixture, path, field, t, box)
//   flowMap, averageVelocity   (field, x, s, t, { solver, steps, path, out })
//   inSlices(work, budgetMs, signal), with solving(field, x0, { group, ...as solve }) as the work

export { checkMixture } from "./flow_checks.js";
export { fluxIntoBox, massInBox, massRate, normalCdf } from "./flow_box.js";
export { flowMap, guided, withAdded, ADDED_NAMES } from "./flow_maps.js";
export { averageVelocity, gridField } from "./flow_more.js";
export { gridDensity, gridPoints, cellCentres } from "./flow_grids.js";
export { logProb, score, velocity, posteriorMeanX1, posteriorMeanX0, velocityField } from "./flow_mixture.js";
export { angleOf, makePath, normalised, timeAt, PATH_NAMES } from "./flow_paths.js";
export { sample, samplePairs, samplePrior } from "./flow_samples.js";
export { inSlices } from "./flow_slices.js";
export { solve, solveSde, solving, stages, shiftGrid, CALLS, SOLVER_NAMES } from "./flow_solvers.js";
export { makeRandom } from "./random.js";
