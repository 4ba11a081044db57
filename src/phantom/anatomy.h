// What a chest is made of, and how much that differs between people. LPS mm and HU. Private to the room.
#pragma once

#include <array>

#include "phantom/noise.h"
#include "phantom/scene.h"

namespace tomoserve::phantom {

// The default is a chest of round numbers: a slim adult, arms up, in deep inspiration.
struct Anatomy {
  struct Lung {
    Point centre{68, -2, 0};  // of the left one; x is mirrored for the right
    double half_x = 54;
    double half_y = 76;
  };
  double scale = 1;   // of everything in the axial plane
  double fat_mm = 0;  // more than the slim adult's
  double lung_half_z = 115;
  Lung right;
  Lung left;
  double lung_hu = -850;
  double lung_hu_per_mm_y = 0.3;

  double fat_hu = -100;
  double muscle_hu = 55;
  double soft_hu = 35;
  double vessel_hu = 40;
  double nodule_hu = 30;
  double haze_hu = -560;  // ground glass
  double heart_hu = 45;
  double liver_hu = 60;
  double rib_hu = 380;
  double vertebra_hu = 220;

  Point heart{24, -22, -0.25};     // z in half heights of the lungs
  Point heart_half{50, 40, 0.45};  // z the same
  double liver_top = 1;            // factor of its half axis along z
  double rib_mm = 4.5;             // radius

  int more_vessels = 0;    // from each hilum, beyond the six
  double vessel_mm = 4.2;  // radius of the first
  double vessel_length_mm = 38;
  double vessel_spread = 0.75;
  int vessel_depth = 6;
  // Nodules keep this many radii of their own from walls, and from vessels.
  double nodule_clearance = 2;
  double feeding_vessels = 0;  // share of nodules that a vessel reaches
  int airway_depth = 0;        // generations beyond the main bronchi
  double airway_wall_hu = 0;
  bool fissures = false;
};

// `vary` 0: the default, 1: as far from it as sizes and densities of real chests go, by the random numbers.
Anatomy MakeAnatomy(double vary, Random& random);

}  // namespace tomoserve::phantom
